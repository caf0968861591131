"""Custom resources: pruned, defaulted, validated and merged by their structural schema."""

from __future__ import annotations

from typing import Any

import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.schema.decode import convert
from kubesim.schema.expressions import matches
from kubesim.schema.structural import compile_schema, filled
from kubesim.schema.structural_rules import twins, violations
from kubesim.schema.structural_types import custom_type
from kubewire.client import Client
from kubewire.errors import Invalid
from kubewire.requests import Request

from .conftest import DEFINITIONS, GROUP, PATH, WIDGETS, definition, settled, version, widget

pytestmark = pytest.mark.anyio


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def pruned(schema: dict[str, Any], value: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    made, unknown = convert(custom_type("example.com", "v1", "Widget", schema), value)
    del made["metadata"]
    return made, unknown


def test_what_the_schema_does_not_name_is_pruned_and_reported() -> None:
    schema = obj(spec=obj(a={"type": "string"}, list={"type": "array", "items": obj(b={"type": "string"})}))
    value = {"spec": {"a": "x", "c": 1, "list": [{"b": "y", "d": 2}]}, "extra": {}}
    assert pruned(schema, value) == (
        {"spec": {"a": "x", "list": [{"b": "y"}]}},
        ["extra", "spec.c", "spec.list[0].d"],
    )


def test_below_preserve_unknown_fields_everything_stays_but_what_is_described_is_pruned() -> None:
    free = {**obj(known=obj()), "x-kubernetes-preserve-unknown-fields": True}
    value = {"free": {"any": {"deep": [None]}, "known": {"gone": 1}}}
    assert pruned(obj(free=free), value) == (
        {"free": {"any": {"deep": [None]}, "known": {}}},
        ["free.known.gone"],
    )


def test_an_embedded_resource_has_metadata_of_its_own() -> None:
    embedded = {**obj(spec=obj()), "x-kubernetes-embedded-resource": True}
    value = {"pod": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "odd": 1}, "other": 1}}
    made, unknown = pruned(obj(pod=embedded), value)
    assert made["pod"]["metadata"]["name"] == "a"
    assert unknown == ["pod.metadata.odd", "pod.other"]


def test_null_stays_only_where_it_may() -> None:
    schema = obj(a={"type": "string"}, b={"type": "string", "nullable": True})
    assert pruned(schema, {"a": None, "b": None})[0] == {"b": None}


def test_defaults_are_filled_in_below_defaults() -> None:
    level = {"type": "integer", "default": 7}
    schema = compile_schema(
        obj(nested={**obj(level=level), "default": {}}, list={"type": "array", "items": obj(level=level)})
    )
    assert filled(schema, {"list": [{}]}) == {"nested": {"level": 7}, "list": [{"level": 7}]}
    whole = {"nested": {"level": 1}}
    assert filled(schema, whole) is whole


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": "integer"}, "1", 'x: Invalid value: "string": % must be of type integer: "string"'),
        ({"type": "string"}, 1, 'x: Invalid value: "integer": % must be of type string: "integer"'),
        ({"type": "string"}, None, 'x: Invalid value: "null": % must be of type string: "null"'),
        (
            {"type": "integer", "maximum": 3, "exclusiveMaximum": True},
            3,
            "x: Invalid value: 3: % should be less than 3",
        ),
        (
            {"type": "number", "multipleOf": 0.5},
            0.7,
            "x: Invalid value: 0.7: % should be a multiple of 0.5",
        ),
        (
            {"type": "string", "pattern": "^a$"},
            "a\n",
            "x: Invalid value: \"a\\n\": % should match '^a$'",
        ),
        ({"type": "string", "maxLength": 1}, "ab", "x: Too long: may not be more than 1 bytes"),
        (
            {"type": "string", "format": "date"},
            "2020",
            'x: Invalid value: "2020": % must be of type date: "2020"',
        ),
        (
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
            [],
            "x: Invalid value: 0: % should have at least 1 items",
        ),
        ({"type": "object", "maxProperties": 0}, {"a": 1}, "x: Too many: 1: must have at most 0 items"),
        ({"type": "object", "required": ["a"]}, {}, "x.a: Required value"),
        (
            {"type": "integer", "oneOf": [{"minimum": 1}, {"minimum": 2}]},
            3,
            '<nil>: Invalid value: "": "x" must validate one and only one schema (oneOf). Found 2 valid alternatives',
        ),
        (
            {"type": "integer", "not": {"enum": [3]}},
            3,
            '<nil>: Invalid value: "": "x" must not validate the schema (not)',
        ),
    ],
)
def test_what_is_wrong_is_said_as_the_real_server_says_it(
    schema: dict[str, Any], value: Any, message: str
) -> None:
    assert [str(one) for one in violations(schema, value, "x")] == [message.replace("%", "x in body")]


def test_a_whole_number_is_an_integer_and_a_number() -> None:
    assert violations({"type": "integer"}, 3.0, "x") == []
    assert violations({"type": "number"}, 3, "x") == []
    assert violations({"x-kubernetes-int-or-string": True}, "a", "x") == []


def test_what_has_not_changed_is_not_looked_at_again() -> None:
    schema = obj(a={"type": "string", "maxLength": 1}, b={"type": "string"})
    old = {"a": "long", "b": "x"}
    assert violations(schema, {"a": "long", "b": "y"}, "", old) == []
    assert violations(schema, {"a": "longer", "b": "x"}, "", old) != []
    listed = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["b"],
        "items": schema,
    }
    assert violations(listed, [{"a": "long", "b": "x"}, {"b": "y"}], "", [old]) == []


def test_sets_and_maps_have_no_twins() -> None:
    schema = {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}
    assert [str(one) for one in twins(schema, ["a", "b", "a"], "x")] == ['x[2]: Duplicate value: "a"']


def test_expressions_of_go_are_understood() -> None:
    assert matches(r"^[[:alpha:]]+$", "abc")
    assert not matches(r"^[[:alpha:]]+\z", "ab1")


async def served(api: ApiServer, client: Client, **members: Any) -> None:
    await client.create(DEFINITIONS, definition(version(**members)))
    await settled(api)


async def test_selectable_fields_select(api: ApiServer, client: Client) -> None:
    await served(api, client, selectableFields=[{"jsonPath": ".spec.size"}])
    for name, size in (("a", 1), ("b", 2)):
        await client.create(WIDGETS, widget(name, spec={"size": size}), "default")
    request = Request(method="GET", path=PATH, query=(("fieldSelector", "spec.size=2"),))
    found = (await client.raw(request, 5)).json()["items"]
    assert [one["metadata"]["name"] for one in found] == ["b"]


async def test_without_the_status_subresource_status_counts_as_a_change(
    api: ApiServer, client: Client
) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    await served(api, client, schema=schema)
    await client.create(WIDGETS, widget("w", status={"a": 1}), "default")
    changed = await client.patch(WIDGETS, "w", {"status": {"a": 2}}, "default")
    assert changed["metadata"]["generation"] == 2
    labelled = await client.patch(WIDGETS, "w", {"metadata": {"labels": {"a": "b"}}}, "default")
    assert labelled["metadata"]["generation"] == 2


async def test_a_negative_scale_is_refused(api: ApiServer, client: Client) -> None:
    spec = obj(size={"type": "integer"})
    scale = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    await served(api, client, schema=obj(spec=spec), subresources={"scale": scale})
    with pytest.raises(Invalid, match="should be a non-negative integer"):
        await client.create(WIDGETS, widget("w", spec={"size": -1}), "default")


async def test_preserved_fields_are_applied_one_by_one(api: ApiServer, client: Client) -> None:
    await served(api, client, schema={"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    await client.apply(WIDGETS, widget("w", spec={"a": {"x": 1}, "l": [1]}), "default", field_manager="one")
    made = await client.apply(WIDGETS, widget("w", spec={"a": {"y": 2}}), "default", field_manager="two")
    assert made["spec"] == {"a": {"x": 1, "y": 2}, "l": [1]}


async def test_a_value_of_the_wrong_form_is_a_matter_of_validation(api: ApiServer, client: Client) -> None:
    await served(api, client)
    with pytest.raises(Invalid, match='spec in body must be of type object: "string"'):
        await client.create(WIDGETS, widget("w", spec="no"), "default")


async def test_cluster_scoped_objects_have_no_namespace(api: ApiServer, client: Client) -> None:
    await client.create(DEFINITIONS, definition(scope="Cluster"))
    await settled(api)
    request = Request(method="GET", path=f"/apis/{GROUP}/v1/widgets")
    assert (await client.raw(request, 5)).json()["items"] == []


async def test_openapi_has_the_kind(api: ApiServer, client: Client) -> None:
    await served(api, client)
    document = (await client.raw(Request(method="GET", path=f"/openapi/v3/apis/{GROUP}/v1"), 5)).json()
    assert "com.example.v1.Widget" in document["components"]["schemas"]
    document = (await client.raw(Request(method="GET", path="/openapi/v2"), 5)).json()
    assert "com.example.v1.Widget" in document["definitions"]
