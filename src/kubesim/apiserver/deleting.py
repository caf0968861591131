"""delete and deletecollection: grace periods, finalizers, propagation, preconditions.

An object goes at once when nothing keeps it: no grace period that a kubelet has to honour, no finalizer.
Otherwise it is marked with a deletionTimestamp and stays, until the update that takes away the last thing
that kept it (see `writing`) or a second deletion with a grace period of zero. Who removes finalizers, and
with which propagation policy which dependents go, is the business of controllers.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt
from kubesim.apiserver.calls import Call
from kubesim.apiserver.core import Core
from kubesim.apiserver.kinds import strategy
from kubesim.apiserver.kinds.definition import CLEANUP, with_condition
from kubesim.apiserver.listoptions import parse_list_options
from kubesim.apiserver.objects import encode
from kubesim.apiserver.options import DeleteOptions, delete_options
from kubesim.apiserver.rendering import document
from kubesim.apiserver.requests import JsonObject, Reply
from kubesim.apiserver.selection import acceptor
from kubesim.errors import StatusError
from kubesim.schema.registry import ResourceType
from kubesim.store import KeyMissing, RevisionMismatch, Stored

ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
_ATTEMPTS = 20
_KEPT_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})


async def delete(core: Core, call: Call) -> Reply:
    options = delete_options(call.request)
    obj, gone = await delete_one(core, call, call.key, options)
    rt = call.rt
    if gone and not strategy(rt).delete_returns_object:
        status = errors.success(rt.group_resource, call.name, obj["metadata"].get("uid", ""))
        return call.renderer.status(status)
    return call.renderer.object(obj)


async def delete_collection(core: Core, call: Call) -> Reply:
    options = delete_options(call.request)
    selection = parse_list_options(call.request.query, call.rt, watch=False)
    page = call.table.page(
        namespace=call.route.namespace,
        limit=selection.limit,
        accept=acceptor(selection, call.storage),
    )
    deleted = []
    for stored in page.items:
        await asyncio.sleep(0)  # everybody else gets a turn: in memory nothing else in here waits
        try:
            obj, _ = await delete_one(core, call, stored.name, options)
        except StatusError as error:
            if error.code != 404:
                raise
            continue
        deleted.append({key: value for key, value in obj.items() if key not in ("kind", "apiVersion")})
    rt = call.rt
    shown = {
        "kind": rt.list_kind_name,
        "apiVersion": rt.api_version,
        "metadata": {"resourceVersion": str(core.store.revision)},
        "items": deleted,
    }
    return document(shown, call.renderer.wanted)


async def delete_one(
    core: Core, call: Call, key: str, options: DeleteOptions, *, admitted: bool = False
) -> tuple[JsonObject, bool]:
    """Returns the object as it is answered, and whether it is gone (as opposed to: marked)."""
    namespace, _, name = key.partition("/")
    for _ in range(_ATTEMPTS):
        stored = core.store.head(call.resource, key)
        if stored is None:
            raise errors.not_found(call.rt.group_resource, name)
        obj = call.renderer.decoded(stored)
        check_preconditions(call.rt, obj, options)
        if call.rt.group_resource == "namespaces" and name in _KEPT_NAMESPACES:
            raise errors.forbidden("namespaces", name, "this namespace may not be deleted")
        marked, gone = mark(call.rt, obj, options, core.environment.now())
        if not admitted and (gone or marked != obj):
            await core.admission.ask(core, _attempt(call, namespace, obj, options), None)
        if options.dry_run:
            return marked, gone
        try:
            return await _apply(core, call, stored, obj, marked, gone), gone
        except RevisionMismatch:
            continue
        except KeyMissing:
            raise errors.not_found(call.rt.group_resource, name) from None
    raise errors.conflict(call.rt.group_resource, name)


def _attempt(call: Call, namespace: str, old: JsonObject, options: DeleteOptions) -> Attempt:
    """A deletion as admission sees it; one of many says no name."""
    return Attempt(
        operation="DELETE",
        rt=call.rt,
        subresource="",
        namespace=namespace,
        name=call.name,
        user=call.request.user,
        old=old,
        dry_run=options.dry_run,
        options=options.document,
        notes=call.request.notes,
    )


async def _apply(
    core: Core, call: Call, stored: Stored, obj: JsonObject, marked: JsonObject, gone: bool
) -> JsonObject:
    if gone:
        return call.renderer.decoded(await remove(core, call.rt, stored, marked))
    if marked == obj:
        return obj
    changed = core.to_storage(call.rt, marked)
    new = await core.store.update(
        stored.resource, stored.name, stored.revision, lambda revision: encode(changed, revision)
    )
    return call.renderer.decoded(new)


async def remove(core: Core, rt: ResourceType, stored: Stored, last: JsonObject) -> Stored:
    """Take the object out of the store; watchers see `last` as its last state."""
    state = core.to_storage(rt, last)
    removed = await core.store.delete(
        stored.resource, stored.name, stored.revision, lambda revision: encode(state, revision)
    )
    strategy(rt).release(rt, last, core.context())
    return removed


def check_preconditions(rt: ResourceType, obj: JsonObject, options: DeleteOptions) -> None:
    """Raises StatusError 409."""
    meta = obj["metadata"]
    if options.uid is not None and options.uid != meta["uid"]:
        raise errors.conflict(
            rt.kind,
            meta["name"],
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({meta['uid']}). "
            "The object might have been deleted and then recreated",
        )
    if options.version is not None and options.version != meta["resourceVersion"]:
        raise errors.conflict(
            rt.kind,
            meta["name"],
            f"the ResourceVersion in the precondition ({options.version}) does not match the ResourceVersion "
            f"in record ({meta['resourceVersion']}). The object might have been modified",
        )


def mark(rt: ResourceType, obj: JsonObject, options: DeleteOptions, now: datetime) -> tuple[JsonObject, bool]:
    """The object after a deletion, and whether it is gone with it. Pure."""
    if rt.group_resource == "namespaces":
        return _mark_namespace(obj, options, now)
    if rt.group_resource == "customresourcedefinitions.apiextensions.k8s.io":
        obj = _mark_definition(obj, now)
    meta: dict[str, Any] = obj["metadata"]
    finalizers = _finalizers(rt, meta.get("finalizers") or [], options)
    grace = grace_period(rt, obj, options)
    pending = meta.get("deletionGracePeriodSeconds")
    if meta.get("deletionTimestamp"):
        shorter = grace if options.grace is not None or not is_pod(rt) else None
        if shorter is None or (pending is not None and shorter >= pending and shorter > 0):
            # A second deletion that asks for nothing more changes nothing.
            kept = {**meta}
            _set_finalizers(kept, finalizers)
            return {**obj, "metadata": kept}, False
        begun = datetime.fromisoformat(meta["deletionTimestamp"]) - timedelta(seconds=pending or 0)
    else:
        begun = now
    first = not meta.get("deletionTimestamp")
    made = {**meta}
    _set_finalizers(made, finalizers)
    if finalizers or grace > 0 or is_pod(rt):
        made["deletionGracePeriodSeconds"] = grace
        made["deletionTimestamp"] = (begun + timedelta(seconds=grace)).strftime("%Y-%m-%dT%H:%M:%SZ")
        if first and meta.get("generation", 0) > 0:
            made["generation"] = meta["generation"] + 1
    return {**obj, "metadata": made}, not finalizers and grace == 0


def _set_finalizers(meta: dict[str, Any], finalizers: list[str]) -> None:
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)


def _mark_namespace(obj: JsonObject, options: DeleteOptions, now: datetime) -> tuple[JsonObject, bool]:
    """A namespace is Terminating until its controller has emptied it and taken the finalizer out of its
    spec."""
    meta = dict(obj["metadata"])
    if not meta.get("deletionTimestamp"):
        meta["deletionTimestamp"] = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    status = {**obj.get("status", {}), "phase": "Terminating"}
    marked = {**obj, "metadata": meta, "status": status}
    kept = obj.get("spec", {}).get("finalizers") or meta.get("finalizers")
    return marked, not kept


def _mark_definition(obj: JsonObject, now: datetime) -> JsonObject:
    """A definition stays until its objects are gone (see `definitions`)."""
    meta = obj["metadata"]
    if meta.get("deletionTimestamp"):
        return obj
    finalizers = meta.get("finalizers") or []
    if CLEANUP not in finalizers:
        meta = {**meta, "finalizers": [*finalizers, CLEANUP]}
    status = with_condition(
        obj["status"],
        (
            "Terminating",
            "True",
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will be initiated soon",
        ),
        now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return {**obj, "metadata": meta, "status": status}


def _finalizers(rt: ResourceType, current: list[str], options: DeleteOptions) -> list[str]:
    """The finalizers that a propagation policy leaves."""
    if options.policy is None:
        return current
    kept = [one for one in current if one not in (ORPHAN, FOREGROUND)]
    if options.policy == "Orphan":
        return [*kept, ORPHAN]
    if options.policy == "Foreground":
        return [*kept, FOREGROUND]
    return kept


def grace_period(rt: ResourceType, obj: JsonObject, options: DeleteOptions) -> int:
    """How long the object may take to end: only pods that run somewhere take any time."""
    if not is_pod(rt):
        return 0
    spec = obj["spec"]
    if not spec.get("nodeName") or obj.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        return 0
    grace = options.grace if options.grace is not None else spec.get("terminationGracePeriodSeconds", 30)
    return 1 if grace < 0 else int(grace)


def is_pod(rt: ResourceType) -> bool:
    return rt.group_resource == "pods"
