"""YAML from anybody: what it means, and what it cannot do to the process that reads it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from kubesim.schema.yamltext import InvalidYaml, dump_yaml, read_yaml


def value(text: str) -> Any:
    return read_yaml(text.encode())[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: yes", {"a": True}),
        ("a: 12:30", {"a": "12:30"}),
        ("a: 2020-01-01", {"a": "2020-01-01"}),
        ("a: 0x1f", {"a": 31}),
        ("a: 0o17", {"a": 15}),
        ("a: 1_000", {"a": 1000}),
        ("a: 1.0", {"a": 1}),
        ("a: 1e300", {"a": 1e300}),
        ("a: 99999999999999999999999", {"a": 1e23}),
        ("a: " + "9" * 100_000, {"a": float("inf")}),
        ("a: 0x" + "f" * 100, {"a": "0x" + "f" * 100}),
        ("a: !!str 12", {"a": "12"}),
        ("a: !!int '7'", {"a": 7}),
        ("a: !custom x", {"a": "x"}),
        ("a: !!python/name:os.system x", {"a": "x"}),
        ("1: a\ntrue: b\n~: c", {"1": "a", "true": "b", "null": "c"}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}),
        ("a: &x {b: 1}\nd: {<<: [{b: 2}, *x]}", {"a": {"b": 1}, "d": {"b": 2}}),
        ("", None),
        ("a:", {"a": None}),
    ],
)
def test_what_a_text_means(text: str, expected: Any) -> None:
    assert value(text) == expected


def test_a_key_that_a_merge_brings_as_well_occurs_once() -> None:
    assert read_yaml(b"a: &x {b: 1}\nd: {<<: *x, b: 2}")[1] == []
    assert read_yaml(b"a: 1\nb: 2\na: 3")[1] == ['  line 3: key "a" already set in map']


def laughs(member: str) -> str:
    lines = ["a0: &a0 {x: 1}"]
    for at in range(1, 12):
        several = ",".join([f"*a{at - 1}"] * 9)
        lines.append(f"a{at}: &a{at} " + member.format(several=several, at=at))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (laughs("[{several}]"), "excessive aliasing"),
        (laughs("{{<<: [{several}], k{at}: 1}}"), "excessive aliasing"),
        ("a: &a [*a]", "anchor 'a' value contains itself"),
        ("a: *b", "unknown anchor 'b' referenced"),
        ("? [1]\n: x", "invalid map key"),
        ("a: {<<: 1}", "map merge requires map"),
        ("a: 1\n---\nb: 2", "single document"),
        ("a: [", "yaml: line"),
        ("a: !!int x", "cannot decode"),
        ("- " * 100_000 + "a", "exceeded max depth"),
        ("[" * 100_000, "exceeded max depth"),
        ("{a: " * 100_000, "exceeded max depth"),
        ('a: "\\ud800"', "yaml: line"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidYaml, match=why):
        value(text)


def test_a_text_that_is_deep_does_not_end_the_process() -> None:
    """In another process: the tree of PyYAML's C parser is made by recursion without an end."""
    source = (
        "from kubesim.schema.bodies import DecodeError, load_yaml\n"
        "for text in (b'- ' * 200_000, b'? ' * 200_000, b'a: {' * 200_000):\n"
        "    try:\n        load_yaml(text)\n    except DecodeError:\n        continue\n    raise SystemExit(1)"
    )
    assert subprocess.run([sys.executable, "-c", source], timeout=60, check=False).returncode == 0


def test_what_is_written_is_read_as_it_was() -> None:
    given = {
        "a": ["yes", "12", 12, None, True, "0o7", "1e3", "=", "<<", "2020-01-01", "é\n"],
        "n": "n",
        "~": {},
    }
    assert value(dump_yaml(given).decode()) == given
