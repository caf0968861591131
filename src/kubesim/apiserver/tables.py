"""Tables: the columns that `kubectl get` prints, made by the server.

A kind's columns are in `columns`; kinds without any have Name and Created At, custom resources what their CRD says.
A row carries the object's metadata, the whole object, or nothing, as `includeObject` asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import orjson

from kubesim.apiserver.columns import COLUMNS, CREATED, NAME, Column
from kubesim.apiserver.columns.values import Moment, age
from kubesim.apiserver.jsonpath import first
from kubesim.errors import JsonObject
from kubesim.schema.registry import ResourceType

TABLE = "meta.k8s.io/v1"

_COMPLETED = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


def to_table(
    rt: ResourceType, objects: Sequence[JsonObject], now: datetime, include: str = "Metadata"
) -> JsonObject:
    """The table of some objects; `include` is Metadata, Object or None."""
    row = row_maker(rt, now, include)
    return {
        "kind": "Table",
        "apiVersion": TABLE,
        "metadata": {"resourceVersion": ""},
        "columnDefinitions": [column.definition() for column in columns_of(rt)],
        "rows": [row(obj) for obj in objects],
    }


def row_maker(rt: ResourceType, now: datetime, include: str) -> Callable[[JsonObject], JsonObject]:
    """The function that makes an object's row."""
    columns, moment = columns_of(rt), Moment(now)
    return lambda obj: _row(rt, columns, obj, moment, include)


def columns_of(rt: ResourceType) -> Sequence[Column]:
    """The columns of a resource."""
    if not rt.custom:
        return COLUMNS.get((rt.group, rt.kind), (NAME, CREATED))
    if not rt.columns:
        return (NAME, Column("Age", age, type="date"))
    return (NAME, *(_custom(column) for column in rt.columns))


def _row(
    rt: ResourceType, columns: Sequence[Column], obj: JsonObject, moment: Moment, include: str
) -> JsonObject:
    row: JsonObject = {"cells": [column.cell(obj, moment) for column in columns]}
    phase = (obj.get("status") or {}).get("phase") if rt.kind == "Pod" and not rt.group else None
    if phase in _COMPLETED:
        row["conditions"] = [
            {"type": "Completed", "status": "True", "reason": phase, "message": _COMPLETED[phase]}
        ]
    if include == "Object":
        row["object"] = {"kind": rt.kind, "apiVersion": rt.api_version} | obj
    elif include == "Metadata":
        row["object"] = {"kind": "PartialObjectMetadata", "apiVersion": TABLE, "metadata": obj["metadata"]}
    else:
        row["object"] = None
    return row


def _custom(column: Any) -> Column:
    path, kind = column["jsonPath"], column["type"]

    def cell(obj: JsonObject, moment: Moment) -> Any:
        value = first(path, obj)
        if value is None:
            return None
        if kind == "date":
            return moment.since(value) if isinstance(value, str) else "<unknown>"
        return _as(kind, value)

    return Column(
        column["name"],
        cell,
        type=kind,
        format=column.get("format", ""),
        priority=column.get("priority", 0),
        description=column.get(
            "description", "Custom resource definition column (in JSONPath format): " + path
        ),
    )


def _as(kind: str, value: Any) -> Any:
    """A value as the column's type; what does not fit is left empty."""
    if kind == "integer":
        return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if kind == "number":
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    return value if isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
