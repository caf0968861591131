"""Laws of patches and applies on objects with lists in lists: repeating changes nothing, those who touch different
things may come in any order, and what is taken back is as if it had never been."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.apiserver.patch.apply import apply
from kubesim.apiserver.patch.merge import merge_patch
from kubesim.apiserver.patch.strategic import strategic_merge
from kubesim.schema.registry import builtin
from kubesim.schema.types import named

PODS = builtin().find("", "v1", "pods")
assert PODS is not None
POD_SPEC = named("core.v1.PodSpec")
NOW = "2020-01-01T00:00:00Z"
Json = dict[str, Any]

few = settings(max_examples=60, deadline=None)


def environment(names: str) -> st.SearchStrategy[list[Json]]:
    entry = st.builds(
        lambda name, value: {"name": name, "value": value}, st.sampled_from(names), st.sampled_from("12")
    )
    return st.lists(entry, max_size=2, unique_by=lambda one: one["name"])


def containers(names: str, variables: str) -> st.SearchStrategy[list[Json]]:
    one = st.builds(
        lambda name, env, image: {"name": name, **({"env": env} if env else {}), **image},
        st.sampled_from(names),
        environment(variables),
        st.sampled_from([{}, {"image": "i:1"}, {"image": "i:2"}]),
    )
    return st.lists(one, min_size=1, max_size=2, unique_by=lambda one: one["name"])


def specs(names: str, variables: str, labels: str) -> st.SearchStrategy[Json]:
    """What one manager says about a pod."""
    return st.builds(
        lambda found, marks: {"labels": dict.fromkeys(marks, "x"), "containers": found},
        containers(names, variables),
        st.sets(st.sampled_from(labels), max_size=2),
    )


def body(said: Json) -> Json:
    metadata: Json = {"name": "p"}
    if said["labels"]:
        metadata["labels"] = said["labels"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": said["containers"]},
    }


def put(live: Any, said: Json, manager: str) -> Json:
    return apply(PODS, live, body(said), manager=manager, now=NOW, force=False)


def base() -> Json:
    held = {
        "labels": {"base": "y"},
        "containers": [{"name": "base", "image": "b", "env": [{"name": "Z", "value": "0"}]}],
    }
    return put(None, held, "base")


def unordered(value: Any) -> Any:
    """Lists of named elements as maps: two managers' elements stand in the order in which they came."""
    if isinstance(value, dict):
        return {key: unordered(part) for key, part in value.items()}
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        return {one["name"]: unordered(one) for one in value}
    if isinstance(value, list) and value and all(isinstance(one, dict) and "manager" in one for one in value):
        return {one["manager"]: unordered(one) for one in value}
    return value


ONE = specs("ab", "AB", "ab")
OTHER = specs("cd", "CD", "cd")


@few
@given(ONE)
def test_applying_a_pod_twice_is_applying_it_once(said: Json) -> None:
    once = put(base(), said, "one")
    assert put(once, said, "one") == once


@few
@given(ONE, OTHER)
def test_managers_of_different_containers_and_labels_commute(one: Json, other: Json) -> None:
    there = put(put(base(), one, "one"), other, "other")
    back = put(put(base(), other, "other"), one, "one")
    assert unordered(there) == unordered(back)


@few
@given(environment("AB"), environment("CD"))
def test_managers_of_different_variables_of_one_container_commute(one: list[Json], other: list[Json]) -> None:
    mine = {"labels": {}, "containers": [{"name": "base", "env": one}]}
    theirs = {"labels": {}, "containers": [{"name": "base", "env": other}]}
    there = put(put(base(), mine, "one"), theirs, "other")
    back = put(put(base(), theirs, "other"), mine, "one")
    assert unordered(there) == unordered(back)


@few
@given(ONE, OTHER)
def test_what_a_manager_takes_back_is_as_if_it_had_never_been(one: Json, other: Json) -> None:
    without = put(base(), other, "other")
    nothing = {"labels": {}, "containers": [{"name": "base"}]}
    gone = put(put(without, one, "one"), nothing, "one")
    with_nothing = put(without, nothing, "one")
    assert unordered(gone) == unordered(with_nothing)


@few
@given(ONE, ONE)
def test_the_last_apply_of_a_manager_decides_whatever_it_said_before(before: Json, now: Json) -> None:
    assert unordered(put(put(base(), before, "one"), now, "one")) == unordered(put(base(), now, "one"))


# Strategic merge and merge patches


@few
@given(containers("abcd", "XY"), containers("ab", "AB"), containers("cd", "CD"))
def test_strategic_patches_of_different_containers_commute(
    live: list[Json], one: list[Json], other: list[Json]
) -> None:
    def patched(*patches: list[Json]) -> Any:
        spec: Json = {"containers": live}
        for patch in patches:
            spec = strategic_merge(POD_SPEC, spec, {"containers": patch})
        return unordered(spec)

    assert patched(one, other) == patched(other, one)


@few
@given(containers("ab", "XY"), containers("cd", "XY"))
def test_deleting_what_a_strategic_patch_has_added_is_the_way_back(
    live: list[Json], added: list[Json]
) -> None:
    grown = strategic_merge(POD_SPEC, {"containers": live}, {"containers": added})
    deleted = [{"$patch": "delete", "name": one["name"]} for one in added]
    assert strategic_merge(POD_SPEC, grown, {"containers": deleted}) == {"containers": live}


JSON = st.recursive(
    st.integers(0, 3) | st.sampled_from(["a", "b"]),
    lambda inner: st.dictionaries(st.sampled_from("pqr"), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("pqrs"), JSON, max_size=4)


def difference(old: Any, new: Any) -> Any:
    """The merge patch that leads from one document to another."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    patch: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
        elif old[key] != value:
            both = isinstance(old[key], dict) and isinstance(value, dict)
            patch[key] = difference(old[key], value) if both else value
    return patch


@few
@given(DOCUMENTS, DOCUMENTS)
def test_a_difference_as_a_merge_patch_leads_there_and_back(one: Json, other: Json) -> None:
    assert merge_patch(one, difference(one, other)) == other
    assert merge_patch(merge_patch(one, difference(one, other)), difference(other, one)) == one


@few
@given(DOCUMENTS, JSON, JSON)
def test_merge_patches_of_different_members_commute(document: Json, one: Any, other: Any) -> None:
    mine, theirs = {"mine": one}, {"theirs": other}
    assert merge_patch(merge_patch(document, mine), theirs) == merge_patch(
        merge_patch(document, theirs), mine
    )
