"""The scale subresource: the number of replicas of anything that has one, as an object of its own.

The Scale has the name, uid and version of the object that it is of; writing it is writing that object's
replicas.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kubesim import errors
from kubesim.apiserver.calls import Call
from kubesim.apiserver.core import Core
from kubesim.apiserver.jsonpath import first
from kubesim.apiserver.negotiation import media_type
from kubesim.apiserver.options import WriteOptions, write_options
from kubesim.apiserver.patch import apply as server_side
from kubesim.apiserver.patching import APPLY_PATCH, applied_document, check_media, plain_patch
from kubesim.apiserver.requests import JsonObject, Reply
from kubesim.apiserver.selectors import shown_selector
from kubesim.apiserver.writing import Proposed, Seen, change_object, read_as
from kubesim.schema.decode import convert
from kubesim.schema.registry import ResourceType
from kubesim.schema.types import kind_type

SCALE_VERSION = "autoscaling/v1"
_COPIED = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(rt: ResourceType, obj: JsonObject) -> JsonObject:
    """The Scale of a Deployment, ReplicaSet, StatefulSet, ReplicationController, or custom resource."""
    if rt.scale_paths is not None:
        return _custom_scale(rt, rt.scale_paths, obj)
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    made: JsonObject = {
        "kind": "Scale",
        "apiVersion": SCALE_VERSION,
        "metadata": {key: meta[key] for key in _COPIED if key in meta},
        "spec": {"replicas": spec["replicas"]} if spec.get("replicas") else {},
        "status": {"replicas": status.get("replicas", 0)},
    }
    selector = spec.get("selector")
    text = shown_selector(selector) if isinstance(selector, dict) and "matchLabels" in selector else None
    if text is None and isinstance(selector, dict):
        text = shown_selector(selector if "matchExpressions" in selector else {"matchLabels": selector})
    if text:
        made["status"]["selector"] = text
    return made


def _custom_scale(rt: ResourceType, paths: tuple[str, str, str], obj: JsonObject) -> JsonObject:
    spec, status, selector = paths
    replicas = first(spec, obj)
    if replicas is None:
        why = f"the spec replicas field {errors.quoted(spec)} does not exist"
        raise errors.internal(why)
    meta = obj["metadata"]
    made: JsonObject = {
        "kind": "Scale",
        "apiVersion": SCALE_VERSION,
        "metadata": {key: meta[key] for key in _COPIED if key in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": first(status, obj) or 0},
    }
    text = first(selector, obj) if selector else None
    if text:
        made["status"]["selector"] = text
    return made


def _with_replicas(rt: ResourceType, obj: JsonObject, replicas: int) -> JsonObject:
    """The object with the replicas of its spec changed."""
    path = rt.scale_paths[0] if rt.scale_paths is not None else ".spec.replicas"
    return _put(obj, path.strip(".").split("."), replicas)


def _put(obj: JsonObject, names: list[str], value: Any) -> JsonObject:
    name, *rest = names
    return {**obj, name: _put(obj.get(name) or {}, rest, value) if rest else value}


async def get(core: Core, call: Call) -> Reply:
    stored = call.table.get(call.key)
    if stored is None:
        raise call.not_found()
    return call.renderer.document(scale_of(call.rt, call.renderer.decoded(stored)))


async def update(core: Core, call: Call) -> Reply:
    options = write_options(call.request, "UpdateOptions")
    wanted = read_as(call, "autoscaling", "v1", "Scale", options).obj
    name = wanted["metadata"].get("name")
    if name and name != call.name:
        raise errors.bad_request(
            f"the name of the object ({name}) does not match the name on the URL ({call.name})"
        )
    return await _write(core, call, options, lambda _: wanted)


async def patch(core: Core, call: Call) -> Reply:
    media = media_type(call.request.headers.get("content-type", ""))
    check_media(call, media)
    if media == APPLY_PATCH:
        return await _apply(core, call)
    options = write_options(call.request, "PatchOptions")
    type_ = kind_type("autoscaling", "v1", "Scale")
    if type_ is None:
        raise errors.no_such_path()
    patched = plain_patch(type_, media, call.request.body)
    return await _write(core, call, options, lambda scale: convert(type_, patched(scale))[0])


async def _apply(core: Core, call: Call) -> Reply:
    """A server-side apply of a Scale: its field is that of the object, and owned there as one of the subresource."""
    options = write_options(call.request, "PatchOptions", apply=True)
    applied = applied_document(call)
    if applied.get("apiVersion") != SCALE_VERSION:
        raise errors.bad_request(
            f"Incorrect version specified in apply patch. Specified patch version: {applied.get('apiVersion') or '/'}, "
            f"expected: {SCALE_VERSION}"
        )
    replicas = (applied.get("spec") or {}).get("replicas")
    wanted: JsonObject = {
        "apiVersion": call.rt.api_version,
        "kind": call.rt.kind,
        "metadata": {"name": call.name},
    }
    if replicas is not None:
        wanted = _with_replicas(call.rt, wanted, replicas)

    def changed(old: JsonObject) -> Proposed:
        merged = server_side.apply(
            call.rt,
            old,
            wanted,
            manager=options.manager,
            now=core.environment.timestamp(),
            force=options.force,
            subresource="scale",
        )
        _check(call, replicas or 0)
        return Proposed(obj=merged, applied=True)

    return await _changed(core, call, changed, options)


def _check(call: Call, replicas: int) -> None:
    if replicas < 0:
        problem = errors.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise errors.invalid("Scale.autoscaling", call.name, [problem])


async def _write(core: Core, call: Call, options: WriteOptions, change: Any) -> Reply:
    def changed(old: JsonObject) -> Proposed:
        wanted = change(scale_of(call.rt, old))
        replicas = (wanted.get("spec") or {}).get("replicas", 0)
        _check(call, replicas)
        meta = dict(old["metadata"])
        version = wanted["metadata"].get("resourceVersion")
        meta["resourceVersion"] = version or ("0" if not call.rt.custom else meta["resourceVersion"])
        return Proposed(obj=_with_replicas(call.rt, {**old, "metadata": meta}, replicas))

    return await _changed(core, call, changed, options)


async def _changed(
    core: Core, call: Call, changed: Callable[[JsonObject], Proposed], options: WriteOptions
) -> Reply:
    seen = Seen(
        of=("autoscaling", "v1", "Scale"),
        show=partial(scale_of, call.rt),
        back=lambda obj, shown: _with_replicas(call.rt, obj, (shown.get("spec") or {}).get("replicas", 0)),
    )
    written = await change_object(core, call, changed, options, seen=seen)
    obj = call.renderer.decoded(written.stored) if written.stored is not None else written.obj
    return call.renderer.document(scale_of(call.rt, obj))
