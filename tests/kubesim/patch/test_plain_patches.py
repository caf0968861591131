"""JSON Patch and JSON Merge Patch."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.apiserver.patch.jsonpatch import json_patch
from kubesim.apiserver.patch.merge import merge_patch
from kubesim.errors import StatusError

DOCUMENT: dict[str, Any] = {
    "metadata": {"annotations": {"example.com/a.b": "old"}},
    "data": {"k": "v", "l": "w"},
    "list": [1, 2, 3],
}


def test_operations_follow_each_other() -> None:
    before = copy.deepcopy(DOCUMENT)
    made = json_patch(
        DOCUMENT,
        [
            {"op": "test", "path": "/data/k", "value": "v"},
            {"op": "replace", "path": "/data/k", "value": "changed"},
            {"op": "add", "path": "/data/m", "value": "new"},
            {"op": "remove", "path": "/data/l"},
            {"op": "copy", "from": "/data/k", "path": "/data/copied"},
            {"op": "move", "from": "/data/m", "path": "/data/moved"},
            {"op": "replace", "path": "/metadata/annotations/example.com~1a.b", "value": "escaped"},
            {"op": "add", "path": "/list/1", "value": 9},
            {"op": "add", "path": "/list/-", "value": 8},
            {"op": "remove", "path": "/list/0"},
        ],
    )
    assert made == {
        "metadata": {"annotations": {"example.com/a.b": "escaped"}},
        "data": {"k": "changed", "copied": "changed", "moved": "new"},
        "list": [9, 2, 3, 8],
    }
    assert before == DOCUMENT


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/data/k", "value": "other"},
        {"op": "remove", "path": "/data/none"},
        {"op": "replace", "path": "/data/none", "value": 1},
        {"op": "add", "path": "/metadata/finalizers/0", "value": "x"},
        {"op": "add", "path": "/list/9", "value": "x"},
        {"op": "frob", "path": "/data/k"},
        {"op": "remove", "path": "data/k"},
        {"op": "move", "path": "/data/x"},
        {"path": "/data/k"},
        "nonsense",
    ],
)
def test_whatever_cannot_be_applied_is_the_same_422(operation: Any) -> None:
    with pytest.raises(StatusError) as caught:
        json_patch(DOCUMENT, [{"op": "remove", "path": "/data/k"}, operation])
    assert caught.value.to_status()["details"] == {}
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    assert caught.value.message == "the server rejected our request due to an error in our request"


def test_a_missing_member_tests_as_null() -> None:
    assert json_patch(DOCUMENT, [{"op": "test", "path": "/data/none", "value": None}]) is DOCUMENT


def test_too_many_operations_are_refused() -> None:
    with pytest.raises(StatusError) as caught:
        json_patch({}, [{"op": "add", "path": "/a", "value": 1}] * 10_001)
    assert caught.value.code == 413


@pytest.mark.parametrize(
    ("document", "patch", "made"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_rfc_7386(document: Any, patch: Any, made: Any) -> None:
    assert merge_patch(document, patch) == made


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("abc", max_size=2), JSON, max_size=4)


@given(OBJECTS, OBJECTS)
def test_merging_twice_is_merging_once_and_changes_no_argument(document: Any, patch: Any) -> None:
    kept = copy.deepcopy((document, patch))
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once
    assert (document, patch) == kept


@given(OBJECTS, OBJECTS)
def test_a_difference_taken_as_a_json_patch_leads_from_one_document_to_the_other(
    one: Any, other: Any
) -> None:
    def pointer(key: str) -> str:
        return "/" + key.replace("~", "~0").replace("/", "~1")

    operations = [{"op": "remove", "path": pointer(key)} for key in one if key not in other]
    operations += [{"op": "add", "path": pointer(key), "value": value} for key, value in other.items()]
    kept = copy.deepcopy(one)
    assert json_patch(one, operations) == other
    assert one == kept
