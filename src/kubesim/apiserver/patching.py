"""PATCH: four kinds of patches, chosen by the Content-Type, one way into the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubesim import errors
from kubesim.apiserver.calls import Call
from kubesim.apiserver.core import Core
from kubesim.apiserver.kinds import strategy
from kubesim.apiserver.negotiation import media_type
from kubesim.apiserver.options import WriteOptions, write_options
from kubesim.apiserver.patch import apply as server_side
from kubesim.apiserver.patch.jsonpatch import json_patch
from kubesim.apiserver.patch.merge import merge_patch
from kubesim.apiserver.patch.strategic import strategic_merge
from kubesim.apiserver.requests import JsonObject, Reply
from kubesim.apiserver.writing import Proposed, change_object, create_object, reply, requested_managers
from kubesim.schema import gojson
from kubesim.schema.decode import (
    Body,
    DecodeError,
    decode_patched,
    duplicate_keys,
    load_json,
    load_yaml,
)
from kubesim.schema.types import ObjectType, type_of

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
_CUSTOM_TYPES = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)
_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)


async def patch(core: Core, call: Call) -> Reply:
    media = media_type(call.request.headers.get("content-type", ""))
    check_media(call, media)
    options = write_options(call.request, "PatchOptions", apply=media == APPLY_PATCH)
    if media == APPLY_PATCH:
        return await _apply(core, call, options)
    body = _parse(call.request.body)
    patched = _patcher(type_of(call.rt), media, body.value)

    def change(old: JsonObject) -> Proposed:
        result = patched(old)

        def shown() -> str:
            if media == STRATEGIC_PATCH:
                return gojson.printed(body.value)
            return gojson.document(result, body.value)

        return _checked(call, options, result, shown, body.duplicates)

    return reply(call, await change_object(core, call, change, options))


def check_media(call: Call, media: str) -> None:
    """Raises StatusError 415 for what is no patch, or none that the resource takes."""
    if call.rt.custom and media not in _CUSTOM_TYPES:
        raise errors.unsupported_media(_CUSTOM_TYPES)
    if media not in _TYPES:
        raise errors.unsupported_patch()


def _parse(body: bytes) -> Body:
    try:
        value = load_json(body)
    except DecodeError as error:
        raise errors.bad_request(f"error decoding patch: {error}") from None
    return Body(value, duplicate_keys(value, body))


def plain_patch(type_: ObjectType, media: str, body: bytes) -> Callable[[JsonObject], Any]:
    """The function that applies a JSON, merge or strategic merge patch to a document of this type."""
    if media not in (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH):
        raise errors.unsupported_patch()
    return _patcher(type_, media, _parse(body).value)


def _patcher(type_: ObjectType, media: str, value: Any) -> Callable[[JsonObject], Any]:
    if media == JSON_PATCH:
        if not isinstance(value, list):
            raise errors.bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
        return lambda old: json_patch(old, value)
    if not isinstance(value, dict):
        raise errors.bad_request("json: cannot unmarshal array into Go value of type map[string]interface {}")
    if media == MERGE_PATCH:
        return lambda old: merge_patch(old, value)
    return lambda old: strategic_merge(type_, old, value)


def _checked(
    call: Call,
    options: WriteOptions,
    patched: JsonObject,
    shown: Callable[[], str],
    duplicates: tuple[str, ...],
) -> Proposed:
    decoded = decode_patched(call.rt, patched, shown, options.validation, duplicates)
    check_identity(call, decoded.obj)
    return Proposed(obj=decoded.obj, warnings=tuple(decoded.warnings), requested=requested_managers(patched))


def check_identity(call: Call, obj: JsonObject) -> None:
    """Name and namespace of a patched object are those of the URL."""
    meta = obj["metadata"]
    if meta.get("name") != call.name:
        if not meta.get("name"):
            raise errors.bad_request(
                f"the name of the object ({call.name} based on URL) was undeterminable: name must be provided"
            )
        raise errors.bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({call.name})"
        )
    if call.rt.namespaced and meta.get("namespace") != call.namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


# Server-side apply


async def _apply(core: Core, call: Call, options: WriteOptions) -> Reply:
    applied = applied_document(call)
    if core.store.head(call.resource, call.key) is None:
        if call.route.subresource:
            raise call.not_found()
        uid = (applied.get("metadata") or {}).get("uid")
        if uid:
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise errors.conflict(call.rt.group_resource, call.name, why)
        return reply(
            call, await create_object(core, call, _merged(core, call, None, applied, options), options)
        )

    def change(old: JsonObject) -> Proposed:
        return _merged(core, call, old, applied, options)

    return reply(call, await change_object(core, call, change, options))


def applied_document(call: Call) -> JsonObject:
    """The document of an apply, checked as far as that needs no live object."""
    try:
        value = call.request.document()[0] if call.request.document else load_yaml(call.request.body)
    except ValueError as error:
        raise errors.bad_request(f"error decoding YAML: {error}") from None
    if not isinstance(value, dict):
        raise errors.bad_request("error decoding YAML: the document is not an object")
    return value


def _merged(
    core: Core, call: Call, old: JsonObject | None, applied: JsonObject, options: WriteOptions
) -> Proposed:
    subresource = call.route.subresource or ""
    merged = server_side.apply(
        call.rt,
        old,
        applied,
        manager=options.manager,
        now=core.environment.timestamp(),
        force=options.force,
        subresource=subresource,
        ignored=strategy(call.rt).reset_fields(call.rt, subresource),
    )
    meta = merged["metadata"]
    if old is None:
        # A foreign resourceVersion does not keep an apply from creating.
        meta = {key: value for key, value in meta.items() if key != "resourceVersion"}
        if call.rt.namespaced:
            meta.setdefault("namespace", call.namespace)
    proposed = Proposed(obj={**merged, "metadata": meta}, applied=True)
    check_identity(call, proposed.obj)
    return proposed
