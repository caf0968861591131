"""OpenAPI v2 and v3, which kubectl reads for `explain`, for validation and for merge keys.

The built-in part is what the real server publishes, without its prose; custom resources are added from the registry.
Documents are put together when somebody asks and kept until the registry changes.
"""

from __future__ import annotations

import hashlib
from typing import Any
from weakref import WeakKeyDictionary

import orjson

from kubesim.errors import JsonObject
from kubesim.schema.data import fingerprint, read
from kubesim.schema.registry import Registry, ResourceType

JSON = "application/json"
_REF = "#/components/schemas/"

_cache: WeakKeyDictionary[Registry, tuple[int, dict[str, bytes]]] = WeakKeyDictionary()


def answer(registry: Registry, path: str, accept: str) -> tuple[str, bytes] | None:
    """The media type and the body for a path below /openapi; None for 404.

    Who accepts protobuf only gets JSON all the same: the real server would not, but clients that ask this way
    decide by the media type of the answer.
    """
    generation, documents = _cache.get(registry, (-1, {}))
    if generation != registry.generation:
        documents = {}
        _cache[registry] = (registry.generation, documents)
    if path not in documents:
        made = _document(registry, path)
        if made is None:
            return None
        documents[path] = orjson.dumps(made)
    return JSON, documents[path]


def _document(registry: Registry, path: str) -> JsonObject | None:
    if path == "/openapi/v2":
        return _version_two(registry)
    if path == "/openapi/v3":
        return _index(registry)
    name = path.removeprefix("/openapi/v3/")
    if name == path:
        return None
    data = read("openapi")
    return _built_in(data, name) if name in data["v3"] else _custom_document(registry, data, name)


def _index(registry: Registry) -> JsonObject:
    names = sorted({*read("openapi")["v3"], *_custom_names(registry)})
    return {
        "paths": {
            name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={_hash(registry, name)}"} for name in names
        }
    }


def _hash(registry: Registry, name: str) -> str:
    """Stands for the content: clients keep a document as long as its hash stays."""
    parts: Any = [name, fingerprint("openapi")]
    if name in _custom_names(registry):
        group, version = name.removeprefix("apis/").split("/")
        parts = [[rt.plural, rt.openapi] for rt in registry.resources(group, version)]
    return hashlib.sha256(orjson.dumps([parts], option=orjson.OPT_SORT_KEYS)).hexdigest()[:32].upper()


def _custom_names(registry: Registry) -> set[str]:
    return {f"apis/{rt.group}/{rt.version}" for rt in registry.all() if rt.custom}


def _references(value: Any, found: set[str]) -> None:
    if isinstance(value, dict):
        ref = value.get("$ref")
        if isinstance(ref, str) and ref.startswith(_REF):
            found.add(ref.removeprefix(_REF))
        for one in value.values():
            _references(one, found)
    elif isinstance(value, list):
        for one in value:
            _references(one, found)


def _closure(start: Any, schemas: JsonObject) -> JsonObject:
    """All schemas that a document refers to, and those that they refer to."""
    waiting: set[str] = set()
    _references(start, waiting)
    found: JsonObject = {}
    while waiting:
        name = waiting.pop()
        if name in found or name not in schemas:
            continue
        found[name] = schemas[name]
        _references(schemas[name], waiting)
    return dict(sorted(found.items()))


def _built_in(data: JsonObject, name: str) -> JsonObject:
    document = dict(data["v3"][name])
    schemas = {**data["schemas"], **document.pop("own", {})}
    used = _closure(document.get("paths"), schemas)
    if used or "components" in document:
        document["components"] = ({"schemas": used} if used else {}) | document.get("components", {})
    return document


# Custom resources


def _schema_name(rt: ResourceType) -> str:
    return ".".join([*reversed(rt.group.split(".")), rt.version, rt.kind])


def _kind_of(rt: ResourceType) -> JsonObject:
    return {"group": rt.group, "version": rt.version, "kind": rt.kind}


def _schema(rt: ResourceType, prefix: str) -> JsonObject:
    """The schema of a custom resource with what every object has."""
    made: JsonObject = {**(rt.openapi or {"type": "object", "x-kubernetes-preserve-unknown-fields": True})}
    meta = {"$ref": f"{prefix}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    if prefix == _REF:
        meta = {"allOf": [meta]}  # type: ignore[dict-item]
    made["properties"] = {
        **(made.get("properties") or {}),
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": meta,
    }
    made["x-kubernetes-group-version-kind"] = [_kind_of(rt)]
    return made


def _list_schema(rt: ResourceType, prefix: str) -> JsonObject:
    return {
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": f"{prefix}io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"},
            "items": {"type": "array", "items": {"$ref": prefix + _schema_name(rt)}},
        },
        "x-kubernetes-group-version-kind": [{**_kind_of(rt), "kind": rt.list_kind_name}],
    }


_VERBS = {
    "get": ("get", "read"),
    "put": ("update", "replace"),
    "patch": ("patch", "patch"),
    "delete": ("delete", "delete"),
}


def _operation(rt: ResourceType, action: str, schema: str, *, body: bool) -> JsonObject:
    content = {JSON: {"schema": {"$ref": _REF + schema}}}
    made: JsonObject = {
        "operationId": f"{action}{rt.group.title().replace('.', '')}{rt.version.title()}{rt.kind}",
        "tags": [f"{rt.group.replace('.', '_')}_{rt.version}"],
        "responses": {"200": {"description": "OK", "content": content}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _kind_of(rt),
    }
    if body:
        made["requestBody"] = {"content": {"*/*": {"schema": {"$ref": _REF + schema}}}}
        made["parameters"] = [
            {"name": name, "in": "query", "schema": {"type": "string"}}
            for name in ("dryRun", "fieldManager", "fieldValidation")
        ]
    return made


def _custom_paths(rt: ResourceType) -> JsonObject:
    root = f"/apis/{rt.group}/{rt.version}"
    base = f"{root}/namespaces/{{namespace}}/{rt.plural}" if rt.namespaced else f"{root}/{rt.plural}"
    name = _schema_name(rt)
    paths: JsonObject = {
        base: {
            "get": _operation(rt, "list", name + "List", body=False),
            "post": _operation(rt, "post", name, body=True),
        },
        f"{base}/{{name}}": {
            method: _operation(rt, action, name, body=method in ("put", "patch"))
            for method, (action, _) in _VERBS.items()
        },
    }
    for sub in rt.subresources:
        paths[f"{base}/{{name}}/{sub}"] = {
            method: _operation(rt, action, name, body=method != "get")
            for method, (action, _) in _VERBS.items()
            if method != "delete"
        }
    return paths


def _custom_document(registry: Registry, data: JsonObject, name: str) -> JsonObject | None:
    group, _, version = name.removeprefix("apis/").partition("/")
    types = [rt for rt in registry.resources(group, version) if rt.custom]
    if not types:
        return None
    paths: JsonObject = {}
    schemas: JsonObject = {}
    for rt in types:
        paths |= _custom_paths(rt)
        schemas[_schema_name(rt)] = _schema(rt, _REF)
        schemas[_schema_name(rt) + "List"] = _list_schema(rt, _REF)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
        "paths": paths,
        "components": {"schemas": _closure(schemas, data["schemas"]) | schemas},
    }


def _version_two(registry: Registry) -> JsonObject:
    document: JsonObject = read("openapi")["v2"]
    prefix = "#/definitions/"
    added: JsonObject = {}
    for rt in registry.all():
        if rt.custom:
            added[_schema_name(rt)] = _schema(rt, prefix)
            added[_schema_name(rt) + "List"] = _list_schema(rt, prefix)
    return {**document, "definitions": {**document["definitions"], **added}} if added else document
