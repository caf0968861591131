"""What can be said about a fault, and what is refused: without a server."""

from __future__ import annotations

from typing import Any

import click
import pytest

from kubesim.apiserver.faults.kinds import KINDS, checked
from kubesim.apiserver.faults.presets import PRESETS, faults_of
from kubesim.apiserver.faults.spec import FaultRefused, from_json
from kubesim.cli.main import cli


def fault(kind: str, **words: Any) -> dict[str, Any]:
    return {"kind": kind, **words}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (fault("explode"), "no fault 'explode'"),
        (fault("hang", probability=0), "more than 0 and at most 1"),
        (fault("hang", probability="often"), "probability is a number"),
        (fault("hang", count=0), "at least 1"),
        (fault("hang", seconds=-1), "more than 0 seconds"),
        (fault("hang", verbs=["read"]), "'read' is no verb"),
        (fault("hang", verbs="list"), "a list of words"),
        (fault("hang", colour="red"), "no 'colour'"),
        (fault("hang", parameters={"rate": 5}), "no parameter 'rate'"),
        (fault("hang", resources=["pods"], paths=["/livez"]), "both together never fit"),
        (fault("delay"), "needs its length"),
        (fault("delay", parameters={"delay": 0}), "more than 0"),
        (fault("drip", parameters={"rate": 0}), "at least 1"),
        (fault("drip", parameters={"rate": 1.5}), "a whole number"),
        (fault("drip", subresources=["exec"]), "a WebSocket"),
        (fault("status"), "needs its code"),
        (fault("status", parameters={"code": 200}), "at least 400"),
        (fault("status", parameters={"code": 600}), "400 to 599"),
        (fault("status", parameters={"code": 500, "how": "rude"}), "server, text, proxy"),
        (fault("cut"), "some events or some time"),
        (fault("cut", verbs=["list"], parameters={"events": 1}), "about watch, not about list"),
        (fault("stale"), "in revisions or in seconds, not both"),
        (fault("stale", parameters={"revisions": 1, "age": 1.0}), "not both"),
        (fault("stale", verbs=["watch"], parameters={"revisions": 1}), "not about watch"),
        (fault("reset", parameters={"applied": False, "bytes": 3}), "no answer"),
        (fault("refuse", resources=["pods"]), "cannot be matched by resources"),
        (fault("refuse", count=1, parameters={"how": "refused"}), "no probability or count"),
        (fault("partition", probability=0.5), "no probability or count"),
        (fault("certificate", users=["u"]), "cannot be matched by users"),
    ],
)
def test_what_cannot_be_is_refused_in_words(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(FaultRefused, match=words):
        checked(from_json(asked))


def test_a_fault_says_the_same_after_a_trip_as_json() -> None:
    asked = fault("status", verbs=["list"], resources=["pods"], seed=3, parameters={"code": 429})
    spec = checked(from_json(asked))
    assert spec.parameters["retry_after"] == 1
    assert checked(from_json(spec.to_json())) == spec


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_made_of_faults_that_can_be_set_one_by_one(name: str) -> None:
    for spec in faults_of(name, seconds=5.0):
        assert checked(from_json(checked(spec).to_json())).preset == name


def test_the_command_line_can_say_every_parameter_of_every_kind() -> None:
    group = cli.commands["fault"]
    assert isinstance(group, click.Group)
    options = {parameter.name for parameter in group.commands["add"].params}
    assert {name for kind in KINDS.values() for name in kind.parameters} <= options
