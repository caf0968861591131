"""Mirrors keep once what many objects have in common."""

from __future__ import annotations

import copy
from typing import Any

from kubewire.sharing import Sharing


def pod(name: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"app": "web"},
            "managedFields": [{"manager": "kubectl", "operation": "Update"}],
        },
        "spec": {
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "containers": [{"name": "main", "env": [{"name": "A", "value": "1"}], "args": [name]}],
        },
    }


def test_equal_parts_become_one_and_the_objects_stay_equal() -> None:
    sharing = Sharing()
    one, two = pod("one"), pod("two")
    wanted = copy.deepcopy(two)
    sharing.slim(one)
    sharing.slim(two)
    del wanted["metadata"]["managedFields"]
    assert two == wanted
    assert two["metadata"]["labels"] is one["metadata"]["labels"]
    assert two["spec"]["tolerations"] is one["spec"]["tolerations"]
    assert two["spec"]["containers"][0]["env"] is one["spec"]["containers"][0]["env"]
    assert two["spec"]["containers"][0]["args"] == ["two"]


def test_values_that_differ_only_in_type_are_not_taken_for_equal() -> None:
    sharing = Sharing()
    one = {"metadata": {"name": "a"}, "spec": {"selector": {"x": 1}}}
    two = {"metadata": {"name": "b"}, "spec": {"selector": {"x": True}}}
    sharing.slim(one)
    sharing.slim(two)
    assert two["spec"]["selector"]["x"] is True


def test_what_is_remembered_is_bounded() -> None:
    sharing = Sharing()
    for number in range(10_000):
        sharing.slim({"metadata": {"name": "a", "labels": {"n": str(number)}}})
    assert len(sharing._parts) <= 2048
