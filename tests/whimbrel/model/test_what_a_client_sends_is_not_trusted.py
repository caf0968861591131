"""`from_wire` and manifests from the network: anything that is not exactly right is refused, and nothing crashes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.model.errors import InvalidTask, WhimError
from whimbrel.model.errors import from_wire as error_from_wire
from whimbrel.model.manifest import Entry, Kind, Manifest
from whimbrel.model.task import Task
from whimbrel.model.yamltask import from_wire

GOOD = Task(
    name="x", workdir="/w", envs={"A": "1"}, secrets={"S": "2"}, file_mounts={"/a": "/b"}, run="r"
).to_wire()

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"num_nodes": 10**9}, "'num_nodes' must be between 1 and 1000"),
        ({"num_nodes": "2"}, "'num_nodes' must be a whole number"),
        ({"workdir": "../../etc"}, "'workdir' must be an absolute path"),
        ({"file_mounts": {"/a": "b"}}, "'file_mounts./a' must be an absolute path"),
        ({"file_mounts": {"/a/../../b": "/b"}}, "cannot be a path on the node"),
        ({"envs": {"A": None}}, "'envs.A' has no value"),
        ({"envs": {"A": 5}}, "'envs.A' must be text"),
        ({"envs": {"A;rm": "x"}}, "is not the name of a variable"),
        ({"envs": {"A": "a\0b"}}, "NUL"),
        ({"run": "a\0b"}, "NUL"),
        ({"name": "a\nb"}, "one line"),
        ({"resources": {"cpus": "1e9"}}, "is not a number of CPUs"),
        ({"resources": []}, "must be a mapping"),
        ({"service": {}}, "SkyPilot field"),
    ],
)
def test_a_task_with_something_wrong_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidTask) as refused:
        from_wire(GOOD | change)
    assert expected in refused.value.message


@pytest.mark.parametrize("wire", [None, [], "x", 5, {"run": [[[[[[]]]]]]}, json.loads("[" * 400 + "]" * 400)])
def test_what_is_no_task_at_all_is_refused(wire: object) -> None:
    with pytest.raises(InvalidTask):
        from_wire(wire)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(field=st.sampled_from([*GOOD, "other"]), value=_json)
def test_any_json_gives_a_task_or_a_refusal(field: str, value: object) -> None:
    try:
        task = from_wire(GOOD | {field: value})
    except InvalidTask as refused:
        problems = refused.details["errors"]
    else:
        assert from_wire(task.to_wire()) == task
        return
    assert problems


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    value=_json
    | st.fixed_dictionaries(
        {
            "entries": st.lists(
                _json
                | st.fixed_dictionaries(
                    {"path": _json, "kind": st.sampled_from(["file", "dir", "link"]), "mode": _json}
                )
            )
        }
    )
)
def test_any_json_gives_a_manifest_or_a_refusal(value: object) -> None:
    try:
        manifest = Manifest.from_wire(value)
    except InvalidTask:
        return  # any other exception is what this test looks for
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/", "a\0b", "a\nb", "x" * 5000]
)
def test_a_path_that_leaves_its_directory_is_refused(path: str) -> None:
    with pytest.raises(InvalidTask):
        Manifest.of([Entry(path=path, kind=Kind.DIR, mode=0o755)])


def test_nothing_is_written_through_a_link_or_a_file() -> None:
    link = Entry(path="a", kind=Kind.LINK, target="/etc")
    inside = Entry(path="a/passwd", kind=Kind.FILE, sha256="0" * 64)
    with pytest.raises(InvalidTask, match="under 'a', which is a link"):
        Manifest.of([inside, link])


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "a", "kind": "file", "sha256": "0" * 63},
        {"path": "a", "kind": "file"},
        {"path": "a", "kind": "dir", "sha256": "0" * 64},
        {"path": "a", "kind": "link"},
        {"path": "a", "kind": "dir", "target": "b"},
        {"path": "a", "kind": "dir", "size": 3},
        {"path": "a", "kind": "file", "sha256": "0" * 64, "size": -1},
        {"path": "a", "kind": "dir", "mode": 0o100644},
        {"path": "a", "kind": "dir", "mode": True},
        {"path": "a", "kind": "socket"},
        {"path": "a", "kind": "dir", "owner": "root"},
        {"kind": "dir"},
    ],
)
def test_an_entry_that_does_not_fit_its_kind_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask):
        Manifest.from_wire({"entries": [entry]})


def test_an_error_crosses_the_wire_and_stays_what_it_is() -> None:
    def every(root: type[WhimError]) -> list[type[WhimError]]:
        ours = [child for child in root.__subclasses__() if child.__module__ == WhimError.__module__]
        return [root, *(leaf for child in ours for leaf in every(child))]

    for kind in every(WhimError):
        back = error_from_wire(json.loads(json.dumps(kind("words", remedy="do", details={"a": 1}).to_wire())))
        assert (type(back), back.message, back.remedy, back.details) == (kind, "words", "do", {"a": 1})
