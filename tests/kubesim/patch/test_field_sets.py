"""Sets of paths obey the laws of sets, and comparisons say what has to happen."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubesim.apiserver.patch import fieldset, typed
from kubesim.apiserver.patch.fieldset import MISSING, compare, difference, intersection, top, union, without
from kubesim.schema.types import named

POD = named("core.v1.Pod")
KEYS = st.sampled_from(["f:a", "f:b", 'k:{"name":"x"}'])
SETS = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3).flatmap(
        lambda node: st.sampled_from([node, {".": {}, **node}])
    ),
    max_leaves=8,
)


def members(node: Any) -> set[str]:
    return set(fieldset.paths(node)) if node else set()


@given(SETS, SETS)
def test_union_difference_and_intersection_are_those_of_sets(one: Any, other: Any) -> None:
    both = members(top(union(one, other)))
    assert both == members(one) | members(other)
    assert members(top(difference(one, other))) == members(one) - members(other)
    assert members(top(intersection(one, other))) == members(one) & members(other)


@given(SETS, SETS)
def test_what_is_without_a_path_is_without_everything_below_it(one: Any, other: Any) -> None:
    if fieldset.is_member(other):
        return
    for path in members(top(without(one, other))):
        assert not any(path == gone or path.startswith((gone + ".", gone + "[")) for gone in members(other))


def container(name: str, **members_: Any) -> dict[str, Any]:
    return {"name": name, "resources": {}, **members_}


def pod(*containers: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", **meta}, "spec": {"containers": list(containers)}, "status": {}}


def test_what_is_new_is_added_with_the_node_itself() -> None:
    found = compare(POD, pod(), pod(container("c", image="i"), labels={"l": "x"}))
    assert found.removed is None
    assert found.modified is None
    assert found.added == {
        "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
        "f:spec": {
            "f:containers": {'k:{"name":"c"}': {".": {}, "f:name": {}, "f:resources": {}, "f:image": {}}}
        },
    }


def test_what_is_gone_is_removed_and_what_differs_is_modified() -> None:
    old = pod(container("a", image="1"), container("b", image="1"))
    new = pod(container("a", image="2"))
    found = compare(POD, old, new)
    assert list(fieldset.paths(found.modified or {})) == ['.spec.containers[name="a"].image']
    assert '.spec.containers[name="b"]' in list(fieldset.paths(found.removed or {}))
    assert found.added is None


def test_ports_are_told_apart_by_number_and_protocol() -> None:
    tcp = container("a", ports=[{"containerPort": 80}])
    both = container(
        "a", ports=[{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}]
    )
    found = compare(POD, pod(tcp), pod(both))
    assert list(fieldset.paths(found.added or {})) == [
        '.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"].protocol',
        '.spec.containers[name="a"].ports[containerPort=80,protocol="UDP"]',
        '.spec.containers[name="a"].ports[containerPort=80,protocol="UDP"].containerPort',
        '.spec.containers[name="a"].ports[containerPort=80,protocol="UDP"].protocol',
    ]


def test_elements_that_repeat_are_compared_as_one() -> None:
    twice = pod(container("a", image="1"), container("a", image="2"))
    other = pod(container("a", image="1"), container("a", image="3"))
    found = compare(POD, twice, other)
    assert list(fieldset.paths(found.modified or {})) == ['.spec.containers[name="a"]']


def test_atomic_things_are_owned_whole() -> None:
    affinity = {"nodeSelector": {"a": "b"}, "containers": []}
    found = compare(POD, {"spec": {"containers": []}}, {"spec": affinity})
    assert found.added == {"f:spec": {"f:nodeSelector": {}}}


CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"image": st.sampled_from("xy")}),
    max_size=3,
    unique_by=lambda one: one["name"],
)
LABELS = st.dictionaries(st.sampled_from("lmn"), st.sampled_from("12"), min_size=1, max_size=3)
PODS = st.builds(lambda containers, labels: pod(*containers, labels=labels), CONTAINERS, LABELS)


@given(PODS)
def test_an_object_does_not_differ_from_itself(obj: Any) -> None:
    assert compare(POD, obj, dict(obj)).same


@given(PODS, PODS)
def test_there_and_back_swaps_what_is_added_and_removed(one: Any, other: Any) -> None:
    there, back = compare(POD, one, other), compare(POD, other, one)
    assert members(there.added) == members(back.removed)
    assert members(there.removed) == members(back.added)
    assert members(there.modified) == members(back.modified)


@given(PODS, PODS)
def test_laying_an_object_over_another_leaves_all_of_it(live: Any, applied: Any) -> None:
    merged = typed.merge(POD, None, live, applied)
    assert compare(POD, merged, typed.merge(POD, None, merged, applied)).same
    missing = difference(fieldset.fields_of(POD, applied), fieldset.fields_of(POD, merged))
    assert top(missing) is None


@given(PODS)
def test_taking_out_all_paths_of_a_container_takes_out_the_container(obj: Any) -> None:
    doomed = {"f:spec": {"f:containers": {'k:{"name":"a"}': {".": {}, "f:name": {}, "f:image": {}}}}}
    left = typed.remove(POD, None, obj, doomed)
    names = [one["name"] for one in (left["spec"] or {}).get("containers") or ()] if "spec" in left else []
    assert names == [one["name"] for one in obj["spec"]["containers"] if one["name"] != "a"]


def test_a_missing_value_is_not_null() -> None:
    assert MISSING is not None
    found = compare(POD, {"spec": {"containers": None}}, {"spec": {"containers": [container("c")]}})
    assert found.added is not None
    assert "." not in found.added["f:spec"]["f:containers"]
