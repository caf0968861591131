"""Server-side apply and managed fields: who owns what, conflicts, force, and the laws that hold for all of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.apiserver.defaulting import default
from kubesim.apiserver.kinds import strategy
from kubesim.apiserver.patch import managed
from kubesim.apiserver.patch.apply import apply
from kubesim.apiserver.patch.merge import merge_patch
from kubesim.errors import StatusError
from kubesim.schema.decode import decode
from kubesim.schema.registry import builtin

REGISTRY = builtin()
CONFIG_MAPS = REGISTRY.find("", "v1", "configmaps")
DEPLOYMENTS = REGISTRY.find("apps", "v1", "deployments")
PODS = REGISTRY.find("", "v1", "pods")
assert CONFIG_MAPS is not None
assert DEPLOYMENTS is not None
assert PODS is not None

NOW, LATER = "2020-01-01T00:00:00Z", "2020-01-01T00:00:09Z"


def config(data: dict[str, str] | None = None, **meta: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", **meta}}
    if data is not None:
        body["data"] = data
    return body


def put(
    live: Any, body: dict[str, Any], manager: str, *, force: bool = False, now: str = NOW
) -> dict[str, Any]:
    return apply(CONFIG_MAPS, live, body, manager=manager, now=now, force=force)


def owners(obj: dict[str, Any]) -> dict[str, Any]:
    return {entry["manager"]: entry["fieldsV1"] for entry in obj["metadata"].get("managedFields") or ()}


def test_the_first_apply_creates_and_owns_what_it_says() -> None:
    made = put(None, config({"k": "v"}, labels={"l": "x"}), "one")
    assert made == {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "data": {"k": "v"},
        "metadata": {
            "name": "a",
            "labels": {"l": "x"},
            "managedFields": [
                {
                    "manager": "one",
                    "operation": "Apply",
                    "apiVersion": "v1",
                    "time": NOW,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:data": {"f:k": {}}, "f:metadata": {"f:labels": {"f:l": {}}}},
                }
            ],
        },
    }


def test_the_same_again_changes_nothing_but_the_time() -> None:
    once = put(None, config({"k": "v"}), "one")
    again = put(once, config({"k": "v"}), "one", now=LATER)
    assert managed.same_but_times(once, again)
    assert not managed.same_but_times(once, put(once, config({"k": "w"}), "one"))


def test_what_its_only_owner_leaves_out_goes_away() -> None:
    live = put(None, config({"k": "v", "m": "w"}, labels={"l": "x"}), "one")
    less = put(live, config({"k": "v"}), "one")
    assert less["data"] == {"k": "v"}
    assert "labels" not in less["metadata"]


def test_what_two_own_stays_when_one_gives_it_up_and_an_owner_of_nothing_is_forgotten() -> None:
    live = put(put(None, config({"k": "v"}), "one"), config({"n": "x", "k": "v"}), "two")
    assert owners(live) == {"one": {"f:data": {"f:k": {}}}, "two": {"f:data": {"f:k": {}, "f:n": {}}}}
    left = put(live, config(), "one")
    assert left["data"] == {"k": "v", "n": "x"}
    assert owners(left) == {"two": {"f:data": {"f:k": {}, "f:n": {}}}}


def test_a_value_of_somebody_else_is_a_conflict_with_a_cause_per_field() -> None:
    live = put(None, config({"k": "v", "l": "v"}), "one")
    with pytest.raises(StatusError) as caught:
        put(live, config({"k": "other", "l": "other"}), "two")
    assert caught.value.to_status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'Apply failed with 2 conflicts: conflicts with "one":\n- .data.k\n- .data.l',
        "reason": "Conflict",
        "details": {
            "causes": [
                {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"},
                {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.l"},
            ]
        },
        "code": 409,
    }


def test_force_takes_over() -> None:
    live = put(None, config({"k": "v", "l": "v"}), "one")
    taken = put(live, config({"k": "other"}), "two", force=True)
    assert taken["data"] == {"k": "other", "l": "v"}
    assert owners(taken) == {"one": {"f:data": {"f:l": {}}}, "two": {"f:data": {"f:k": {}}}}


def update(live: dict[str, Any], patch: dict[str, Any], manager: str, **options: Any) -> dict[str, Any]:
    rt = options.pop("rt", CONFIG_MAPS)
    document = merge_patch(live, patch)
    new = default(rt, decode(rt, document).obj)
    entries = managed.updated(
        rt,
        live,
        new,
        manager=manager,
        now=NOW,
        requested=document["metadata"].get("managedFields"),
        **options,
    )
    meta = {key: value for key, value in new["metadata"].items() if key != "managedFields"}
    return {**new, "metadata": meta | ({"managedFields": entries} if entries else {})}


def test_an_update_takes_ownership_without_asking_and_conflicts_name_it() -> None:
    live = put(None, config({"k": "v", "l": "v"}), "one")
    touched = update(live, {"data": {"l": "touched"}}, "hand")
    assert owners(touched) == {"one": {"f:data": {"f:k": {}}}, "hand": {"f:data": {"f:l": {}}}}
    with pytest.raises(StatusError) as caught:
        put(touched, config({"l": "v"}), "one")
    assert caught.value.message == 'Apply failed with 1 conflict: conflict with "hand" using v1: .data.l'


def test_an_update_that_changes_nothing_changes_no_owner() -> None:
    live = update(config({"k": "v"}), {}, "nobody")
    assert "managedFields" not in live["metadata"]
    owned = put(None, config({"k": "v"}), "one")
    assert update(owned, {"data": {"k": "v"}}, "hand") == owned


def test_an_empty_list_forgets_all_managers_for_good() -> None:
    live = put(None, config({"k": "v"}), "one")
    cleared = update(live, {"metadata": {"managedFields": []}}, "hand")
    assert "managedFields" not in cleared["metadata"]
    assert "managedFields" not in update(cleared, {"data": {"k": "w"}}, "hand")["metadata"]


def test_the_first_apply_to_an_object_without_managers_leaves_the_rest_to_whoever_was_before() -> None:
    live = config({"k": "v", "l": "w"})
    made = put({**live, "metadata": {**live["metadata"], "uid": "u"}}, config({"k": "v"}), "one")
    assert owners(made) == {
        "one": {"f:data": {"f:k": {}}},
        "before-first-apply": {"f:data": {".": {}, "f:k": {}, "f:l": {}}},
    }


def test_status_has_an_entry_of_its_own() -> None:
    body = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "x"},
    }
    new = default(PODS, decode(PODS, body).obj)
    entries = managed.updated(
        PODS, None, new, manager="tool", now=NOW, ignored=strategy(PODS).reset_fields(PODS, "")
    )
    [entry] = entries
    assert "f:status" not in entry["fieldsV1"]
    assert entry["fieldsV1"]["f:spec"]["f:containers"]['k:{"name":"c"}']["f:resources"] == {}
    live = {**new, "metadata": {**new["metadata"], "managedFields": entries}, "status": {}}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    written = update(
        live, {"status": status}, "kubelet", rt=PODS, subresource="status",
        ignored=strategy(PODS).reset_fields(PODS, "status"),
    )  # fmt: skip
    [kubelet, tool] = written["metadata"]["managedFields"]
    assert tool == entry
    assert kubelet["subresource"] == "status"
    assert kubelet["fieldsV1"] == {
        "f:status": {
            "f:conditions": {
                ".": {},
                'k:{"type":"Ready"}': {
                    ".": {},
                    "f:lastProbeTime": {},
                    "f:lastTransitionTime": {},
                    "f:status": {},
                    "f:type": {},
                },
            },
            "f:phase": {},
        }
    }


def deployment(*containers: dict[str, Any]) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": list(containers)}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }


def roll(live: Any, body: dict[str, Any], manager: str) -> dict[str, Any]:
    return default(DEPLOYMENTS, apply(DEPLOYMENTS, live, body, manager=manager, now=NOW))


def test_lists_merge_by_their_keys_and_defaults_count_for_keys_that_are_left_out() -> None:
    mine = {"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]}
    live = roll(None, deployment(mine), "one")
    theirs = {
        "name": "c",
        "ports": [{"containerPort": 80, "protocol": "UDP"}],
        "env": [{"name": "B", "value": "2"}],
    }
    both = roll(live, deployment(theirs, {"name": "side", "image": "s"}), "two")
    first, second = both["spec"]["template"]["spec"]["containers"]
    assert [port["protocol"] for port in first["ports"]] == ["TCP", "UDP"]
    assert [one["name"] for one in first["env"]] == ["A", "B"]
    assert second["name"] == "side"
    less = roll(both, deployment({"name": "c", "image": "i"}), "one")
    first, second = less["spec"]["template"]["spec"]["containers"]
    assert first["ports"] == [{"containerPort": 80, "protocol": "UDP"}]
    assert first["env"] == [{"name": "B", "value": "2"}]
    assert second["name"] == "side"


def test_values_that_only_the_server_filled_in_go_with_the_item_that_they_are_in() -> None:
    live = roll(None, deployment({"name": "c", "image": "i"}, {"name": "d", "image": "j"}), "one")
    left = roll(live, deployment({"name": "c", "image": "i"}), "one")
    assert [one["name"] for one in left["spec"]["template"]["spec"]["containers"]] == ["c"]


@pytest.mark.parametrize(
    ("body", "code", "why"),
    [
        (config(managedFields=[]), 400, "metadata.managedFields must be nil"),
        (
            {**config(), "dta": {"k": "v"}},
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .dta: field not declared in schema",
        ),
        (
            {"metadata": {"name": "a"}},
            400,
            "Incorrect version specified in apply patch. Specified patch version: /, expected: v1",
        ),
    ],
)
def test_what_cannot_be_applied_is_refused(body: dict[str, Any], code: int, why: str) -> None:
    with pytest.raises(StatusError) as caught:
        put(None, body, "one")
    assert (caught.value.code, caught.value.message) == (code, why)


def test_keys_that_occur_twice_are_refused() -> None:
    with pytest.raises(StatusError) as caught:
        roll(None, deployment({"name": "c", "image": "i"}, {"name": "c", "image": "j"}), "one")
    assert caught.value.code == 500
    assert caught.value.message.endswith(
        '.spec.template.spec.containers: duplicate entries for key [name="c"]'
    )


def test_the_manager_is_named_or_the_first_part_of_the_user_agent() -> None:
    assert managed.manager_name("me", "tool/v1") == "me"
    assert managed.manager_name("", "tool/v1.2 (linux)") == "tool"
    assert managed.manager_name("", "") == "unknown"


def test_more_than_ten_updaters_become_one() -> None:
    live = update(put(None, config({"k": "0"}), "one"), {}, "nobody")
    for number in range(14):
        live = update(live, {"data": {f"k{number}": "v"}}, f"m{number:02}")
    updaters = [
        entry["manager"] for entry in live["metadata"]["managedFields"] if entry["operation"] == "Update"
    ]
    assert len(updaters) == 10
    assert "ancient-changes" in updaters
    owned = [key for fields in owners(live).values() for key in fields["f:data"]]
    assert sorted(owned) == sorted(["f:k", *(f"f:k{number}" for number in range(14))])


DATA = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("12"), max_size=4)


@given(DATA, DATA)
def test_applying_twice_is_applying_once(before: dict[str, str], wanted: dict[str, str]) -> None:
    live = put(None, config(before), "other")
    once = put(live, config(wanted), "me", force=True)
    assert put(once, config(wanted), "me", force=True) == once


@given(DATA, DATA)
def test_disjoint_managers_commute(one: dict[str, str], other: dict[str, str]) -> None:
    theirs = {key.upper(): value for key, value in other.items()}
    base = put(None, config({"z": "1"}), "base")
    first = put(put(base, config(one), "one"), config(theirs), "two")
    second = put(put(base, config(theirs), "two"), config(one), "one")
    assert first == second


@given(st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), DATA), max_size=6))
def test_every_value_has_an_owner_and_every_owned_path_a_value(
    steps: list[tuple[str, dict[str, str]]],
) -> None:
    live: Any = None
    for manager, data in steps:
        live = put(live, config(data), manager, force=True)
        values = {f"f:{key}" for key in live.get("data") or {}}
        assert {
            key for fields in owners(live).values() for key in fields.get("f:data", {}) if key != "."
        } == values
        assert all((live.get("data") or {}).get(key) == value for key, value in data.items())


@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), DATA), min_size=1, max_size=4))
def test_managers_survive_being_written_down(steps: list[tuple[str, dict[str, str]]]) -> None:
    live: Any = None
    for manager, data in steps:
        live = put(live, config(data), manager, force=True)
    entries = live["metadata"].get("managedFields") or []
    assert managed.written(managed.read(entries)) == entries
