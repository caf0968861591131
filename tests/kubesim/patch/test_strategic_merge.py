"""Strategic merge patch: lists by key, directives, and the surprises of the real server."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.apiserver.patch.strategic import strategic_merge
from kubesim.errors import StatusError
from kubesim.schema.registry import builtin
from kubesim.schema.types import ListType, ObjectType, named, type_of

REGISTRY = builtin()
POD_SPEC = named("core.v1.PodSpec")
META = named("meta.v1.ObjectMeta")
DEPLOYMENT = named("apps.v1.Deployment")
SERVICE = named("core.v1.Service")
ACCOUNT = named("core.v1.ServiceAccount")

SPEC: dict[str, Any] = {
    "volumes": [{"name": "v1", "emptyDir": {}}, {"name": "v2", "emptyDir": {}}],
    "containers": [
        {
            "name": "a",
            "image": "a:1",
            "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
            "ports": [{"containerPort": 80, "name": "web"}],
        },
        {"name": "b", "image": "b:1", "args": ["one", "two"]},
    ],
}


def patched(patch: dict[str, Any], spec: dict[str, Any] = SPEC) -> dict[str, Any]:
    kept = copy.deepcopy((spec, patch))
    made = strategic_merge(POD_SPEC, spec, patch)
    assert (spec, patch) == kept
    return made


def names(spec: dict[str, Any]) -> list[str]:
    return [one["name"] for one in spec["containers"]]


def test_elements_change_by_their_key_and_new_ones_come_first_or_where_they_fit() -> None:
    change = {"name": "a", "image": "a:2", "env": [{"name": "Y", "value": "3"}, {"name": "Z", "value": "4"}]}
    made = patched({"containers": [{**change, "ports": [{"containerPort": 90}]}]})
    assert made["containers"][0] == {
        "name": "a",
        "image": "a:2",
        "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "3"}, {"name": "Z", "value": "4"}],
        "ports": [{"containerPort": 90}, {"containerPort": 80, "name": "web"}],
    }
    assert made["containers"][1] is SPEC["containers"][1]
    assert names(patched({"containers": [{"name": "new", "image": "n"}]})) == ["new", "a", "b"]


def test_the_order_can_be_given() -> None:
    patch = {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
        "containers": [{"name": "b", "image": "b:2"}],
    }
    made = patched(patch)
    assert names(made) == ["b", "a"]
    assert made["containers"][0]["image"] == "b:2"


def test_an_order_that_the_patch_does_not_follow_is_refused() -> None:
    patch = {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b", "image": "x"}]}
    with pytest.raises(StatusError) as caught:
        patched(patch)
    assert caught.value.code == 500
    assert "doesn't match $setElementOrder list" in caught.value.message


def test_elements_are_deleted_by_key_and_lists_replaced_whole() -> None:
    patch = {
        "containers": [
            {"name": "b", "$patch": "delete"},
            {"name": "a", "env": [{"name": "X", "$patch": "delete"}]},
        ],
        "volumes": [{"name": "v2", "$patch": "delete"}],
    }
    made = patched(patch)
    assert names(made) == ["a"]
    assert made["containers"][0]["env"] == [{"name": "Y", "value": "2"}]
    assert made["volumes"] == [{"name": "v1", "emptyDir": {}}]
    replaced = patched({"containers": [{"$patch": "replace"}, {"name": "z", "image": "z"}]})
    assert replaced["containers"] == [{"name": "z", "image": "z"}]


def test_lists_without_a_key_are_replaced() -> None:
    assert patched({"containers": [{"name": "b", "args": ["three"]}]})["containers"][1]["args"] == ["three"]


def test_a_map_can_be_replaced_and_null_deletes() -> None:
    meta = {"labels": {"x": "1", "y": "2"}, "annotations": {"a": "b"}}
    patch = {"labels": {"$patch": "replace", "only": "this"}, "annotations": None}
    assert strategic_merge(META, meta, patch) == {"labels": {"only": "this"}}
    assert strategic_merge(META, meta, {"labels": {"x": None, "$patch": "delete"}})["labels"] == {}


def test_a_directive_makes_a_map_vanish_that_was_not_there() -> None:
    assert strategic_merge(META, {}, {"labels": {"$patch": "replace", "only": "this"}}) == {}
    assert strategic_merge(META, {}, {"labels": {"$patch": "frob"}}) == {}


def test_the_members_of_a_union_are_cleared_by_retain_keys() -> None:
    patch = {"volumes": [{"name": "v1", "$retainKeys": ["name", "configMap"], "configMap": {"name": "x"}}]}
    assert patched(patch)["volumes"][0] == {"name": "v1", "configMap": {"name": "x"}}
    without = {"volumes": [{"name": "v1", "configMap": {"name": "x"}}]}
    assert patched(without)["volumes"][0] == {"name": "v1", "emptyDir": {}, "configMap": {"name": "x"}}
    with pytest.raises(StatusError, match="invalid patch format of \\$retainKeys"):
        patched({"volumes": [{"name": "v1", "$retainKeys": ["name"], "configMap": {"name": "x"}}]})


def test_values_are_taken_out_of_lists_of_strings_and_new_ones_come_first() -> None:
    meta = {"finalizers": ["example.com/a", "example.com/b"]}
    patch = {"$deleteFromPrimitiveList/finalizers": ["example.com/a"], "finalizers": ["example.com/c"]}
    assert strategic_merge(META, meta, patch) == {"finalizers": ["example.com/c", "example.com/b"]}


def test_ports_of_one_number_and_two_protocols_collide() -> None:
    service = {"spec": {"ports": [{"name": "b", "port": 81}, {"name": "c", "port": 82, "protocol": "TCP"}]}}
    made = strategic_merge(
        SERVICE, service, {"spec": {"ports": [{"port": 82, "protocol": "UDP", "name": "u"}]}}
    )
    assert made["spec"]["ports"] == [{"name": "b", "port": 81}, {"name": "u", "port": 82, "protocol": "UDP"}]


def test_secrets_of_an_account_merge_and_its_pull_secrets_do_not() -> None:
    account = {"secrets": [{"name": "x"}], "imagePullSecrets": [{"name": "y"}]}
    patch = {"secrets": [{"name": "z"}], "imagePullSecrets": [{"name": "y", "$patch": "delete"}]}
    assert strategic_merge(ACCOUNT, account, patch) == {
        "secrets": [{"name": "z"}, {"name": "x"}],
        "imagePullSecrets": [{"name": "y", "$patch": "delete"}],
    }


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ({"containers": [{"image": "x"}]}, "map: map[image:x] does not contain declared merge key: name"),
        (
            {"containers": [{"name": "a", "$patch": "frob"}]},
            "unknown patch type: frob in map: map[$patch:frob name:a]",
        ),
        ({"$patch": "frob"}, "unknown patch type: frob in map: map[$patch:frob]"),
    ],
)
def test_a_patch_that_makes_no_sense_is_500_without_a_reason(patch: dict[str, Any], why: str) -> None:
    with pytest.raises(StatusError) as caught:
        patched(patch)
    assert (caught.value.code, caught.value.reason, caught.value.message) == (500, "", why)


def test_a_patch_of_a_whole_object_goes_down_to_the_containers() -> None:
    deployment = {"spec": {"replicas": 1, "template": {"spec": SPEC}}}
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b:2"}]}}}}
    made = strategic_merge(DEPLOYMENT, deployment, patch)
    assert made["spec"]["template"]["spec"]["containers"][1]["image"] == "b:2"
    assert made["spec"]["replicas"] == 1


ENVIRONMENT = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("ABCD"), "value": st.sampled_from("123")}),
    max_size=4,
    unique_by=lambda one: one["name"],
)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abcd")}, optional={"image": st.sampled_from("xyz"), "env": ENVIRONMENT}
    ),
    max_size=4,
    unique_by=lambda one: one["name"],
)


@given(CONTAINERS, CONTAINERS)
def test_patching_twice_is_patching_once(original: list[Any], patch: list[Any]) -> None:
    once = strategic_merge(POD_SPEC, {"containers": original}, {"containers": patch})
    assert strategic_merge(POD_SPEC, once, {"containers": patch}) == once


@given(CONTAINERS, CONTAINERS)
def test_a_merge_has_the_elements_of_both_and_the_values_of_the_patch(
    original: list[Any], patch: list[Any]
) -> None:
    made = {
        one["name"]: one
        for one in strategic_merge(POD_SPEC, {"containers": original}, {"containers": patch})["containers"]
    }
    assert made.keys() == {one["name"] for one in (*original, *patch)}
    for one in patch:
        assert "image" not in one or made[one["name"]]["image"] == one["image"]


@given(CONTAINERS)
def test_an_empty_patch_changes_nothing(original: list[Any]) -> None:
    assert strategic_merge(POD_SPEC, {"containers": original}, {}) == {"containers": original}


def test_every_list_that_merges_has_a_key_or_holds_scalars() -> None:

    seen: set[str] = set()

    def walk(type_: ObjectType) -> None:
        if type_.name in seen:
            return
        seen.add(type_.name)
        for field in type_.fields.values():
            inner = field.type
            if isinstance(inner, ListType):
                if inner.merge and isinstance(inner.element, ObjectType):
                    assert inner.merge_key in inner.element.fields
                inner = inner.element
            if isinstance(inner, ObjectType):
                walk(inner)

    for rt in REGISTRY.all():
        walk(type_of(rt))
    assert len(seen) > 300
