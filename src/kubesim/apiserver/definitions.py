"""From CustomResourceDefinitions to resources that are served, and back when they go.

    definitions = Definitions(core)
    definitions.load()          # what was established before a restart
    definitions.start()         # follow the changes

The names of a definition are accepted unless another one of its group has them; then the definition is established
and its served versions are in the registry, where routing, discovery and OpenAPI find them. A definition that is
deleted takes its objects along: it goes when the last of them has gone. Watches of a resource whose definition has
changed or gone are ended by `reading`, which is woken for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from kubesim.apiserver.core import Core
from kubesim.apiserver.deleting import mark, remove
from kubesim.apiserver.kinds.definition import (
    APPROVAL,
    CLEANUP,
    condition,
    established,
    protected,
    with_condition,
)
from kubesim.apiserver.objects import decode, encode
from kubesim.apiserver.options import DeleteOptions
from kubesim.errors import JsonObject
from kubesim.schema.registry import ResourceType, Subresource
from kubesim.schema.structural_types import custom_type
from kubesim.store import KeyMissing, RevisionMismatch, StorageFailed, StoreClosed, Stored

log = logging.getLogger(__name__)

TABLE = "apiextensions.k8s.io/customresourcedefinitions"
VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_VERBS_AT_THE_END = frozenset(VERBS) - {"create"}
_STATUS = frozenset({"get", "patch", "update"})
_PATIENCE = 5.0


@dataclass(slots=True)
class _Served:
    """What the registry has of a definition, and what that was made from."""

    made_from: bytes
    terminating: bool
    types: list[ResourceType]


class Definitions:
    """Keeps the registry as the stored definitions say. Belongs to the event loop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._table = core.store.table(TABLE)
        self._served: dict[str, _Served] = {}
        self._seen: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def load(self) -> None:
        """Serve what is established already."""
        for stored in self._table.all():
            obj = self._decoded(stored)
            if established(obj):
                self._serve(stored, obj)

    def start(self) -> None:
        """Follow the definitions until `stop`."""
        self._spawn("", self._follow())

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def _spawn(self, name: str, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(
            work, name=f"custom resource definitions {name}".strip()
        )
        self._tasks[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]
        if not task.cancelled() and task.exception() is not None:
            log.error("custom resource definitions: %s", name or "all", exc_info=task.exception())

    async def _follow(self) -> None:
        while True:
            waiter = self._table.changed()
            try:
                if await self._reconcile_all():
                    continue
                await waiter
            except (StoreClosed, StorageFailed) as error:
                log.debug("custom resource definitions: %s", error)
                await waiter
            finally:
                self._table.ignore(waiter)

    async def _reconcile_all(self) -> bool:
        """Bring every definition one step further; whether anything was written."""
        there: set[str] = set()
        wrote = False
        for stored in list(self._table.all()):
            there.add(stored.name)
            obj = self._decoded(stored)
            if self._seen.get(stored.name) == stored.revision and condition(obj, "NamesAccepted") == "True":
                continue
            self._seen[stored.name] = stored.revision
            wrote = await self._reconcile(stored, obj) or wrote
        for name in [*self._served]:
            if name not in there:
                self._unserve(name)
        for name in self._seen.keys() - there:
            del self._seen[name]
        return wrote

    async def _reconcile(self, stored: Stored, obj: JsonObject) -> bool:
        if not obj["metadata"].get("deletionTimestamp"):
            status = judged(obj, self._others(stored), self._core.environment.timestamp())
            if status != obj["status"]:
                return await self._write(stored, {**obj, "status": status})
        if established(obj):
            self._serve(stored, obj)
        finalizers = obj["metadata"].get("finalizers") or ()
        ending = obj["metadata"].get("deletionTimestamp") and CLEANUP in finalizers
        if ending and stored.name not in self._tasks:
            self._spawn(stored.name, self._clean(stored.name))
        return False

    def _decoded(self, stored: Stored) -> JsonObject:
        rt = self._core.registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert rt is not None
        return self._core.decoded.get(stored, rt)

    def _others(self, stored: Stored) -> list[JsonObject]:
        return [self._decoded(one) for one in self._table.all() if one.name != stored.name]

    async def _write(self, stored: Stored, obj: JsonObject) -> bool:
        try:
            await self._core.store.update(
                TABLE, stored.name, stored.revision, lambda revision: encode(obj, revision)
            )
        except (RevisionMismatch, KeyMissing):
            self._seen.pop(stored.name, None)  # somebody else was faster: look again
        return True

    # Serving

    def _serve(self, stored: Stored, obj: JsonObject) -> None:
        registry = self._core.registry
        made_from = orjson.dumps([obj["metadata"]["uid"], obj["spec"], obj["status"]["acceptedNames"]])
        ending = condition(obj, "Terminating") == "True"
        known = self._served.get(stored.name)
        if known is not None and (known.made_from, known.terminating) == (made_from, ending):
            return
        if known is not None and known.made_from == made_from:
            types = [
                replace(rt, terminating=ending, verbs=_VERBS_AT_THE_END if ending else frozenset(VERBS))
                for rt in known.types
            ]
        else:
            types = list(resource_types(obj))
            if ending:
                types = [replace(rt, terminating=True, verbs=_VERBS_AT_THE_END) for rt in types]
        kept = {rt.version for rt in types}
        for rt in known.types if known is not None else ():
            if rt.version not in kept:
                registry.remove(rt.group, rt.version, rt.plural)
        served: list[ResourceType] = []
        for rt in types:
            there = registry.find(rt.group, rt.version, rt.plural)
            if there is None or there.custom:
                registry.add(rt)
                served.append(rt)
        group = obj["spec"]["group"]
        registry.set_versions(group, sorted(registry.versions(group), key=priority))
        self._served[stored.name] = _Served(made_from, ending, served)
        table = self._objects(obj)
        table.begin(stored.created)
        table.wake()

    def _objects(self, obj: JsonObject) -> Any:
        return self._core.store.table(f"{obj['spec']['group']}/{obj['spec']['names']['plural']}")

    def _unserve(self, name: str) -> None:
        served = self._served.pop(name)
        for rt in served.types:
            self._core.registry.remove(rt.group, rt.version, rt.plural)
        for rt in served.types[:1]:
            self._core.store.table(f"{rt.group}/{rt.plural}").wake()

    # Cleaning up

    async def _clean(self, name: str) -> None:
        """Delete the objects of a definition; when the last one has gone let the definition go."""
        while True:
            stored = self._core.store.head(TABLE, name)
            if stored is None:
                return
            obj = self._decoded(stored)
            if CLEANUP not in (obj["metadata"].get("finalizers") or ()):
                return
            table = self._objects(obj)
            waiter = table.changed()
            try:
                served = self._served.get(name)
                rt = served.types[0] if served is not None and served.types else None
                if rt is not None and len(table):
                    await self._delete_all(rt, list(table.all()))
                if rt is None or not len(table):
                    if await self._release(stored, obj):
                        return
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(waiter), _PATIENCE)
            finally:
                table.ignore(waiter)

    async def _delete_all(self, rt: ResourceType, objects: list[Stored]) -> None:
        core = self._core
        for stored in objects:
            obj = decode(stored.data, rt)
            if obj["metadata"].get("deletionTimestamp"):
                continue
            marked, gone = mark(rt, obj, DeleteOptions(), core.environment.now())
            with contextlib.suppress(RevisionMismatch, KeyMissing):
                if gone:
                    await remove(core, rt, stored, marked)
                else:
                    await core.store.update(stored.resource, stored.name, stored.revision, _encoder(marked))

    async def _release(self, stored: Stored, obj: JsonObject) -> bool:
        """Take the finalizer away: the definition is gone unless another one keeps it."""
        meta = dict(obj["metadata"])
        finalizers = [one for one in meta.pop("finalizers") if one != CLEANUP]
        if finalizers:
            meta["finalizers"] = finalizers
        status = with_condition(
            obj["status"],
            ("Terminating", "False", "InstanceDeletionCompleted", "removed all instances"),
            self._core.environment.timestamp(),
        )
        last = {**obj, "metadata": meta, "status": status}
        try:
            if finalizers:
                await self._core.store.update(TABLE, stored.name, stored.revision, _encoder(last))
            else:
                await self._core.store.delete(TABLE, stored.name, stored.revision, _encoder(last))
        except (RevisionMismatch, KeyMissing):
            return False
        return True


def _encoder(obj: JsonObject) -> Any:
    return lambda revision: encode(obj, revision)


# Names and conditions


def judged(obj: JsonObject, others: list[JsonObject], now: str) -> JsonObject:
    """The status that a definition has beside the other ones: which names are accepted, whether it is served."""
    spec, status = obj["spec"], obj["status"]
    rivals = [one["status"]["acceptedNames"] for one in others if one["spec"]["group"] == spec["group"]]
    accepted, reason, message = _accepted(spec["names"], status.get("acceptedNames") or {}, rivals)
    status = {**status, "acceptedNames": accepted}
    value = "True" if reason == "NoConflicts" else "False"
    if protected(spec["group"]):
        status = with_condition(status, _approval(obj), now)
    status = with_condition(status, ("NamesAccepted", value, reason, message), now)
    if condition({"status": status}, "Established") == "True":
        return status
    if value == "True":
        how = ("True", "InitialNamesAccepted", "the initial names have been accepted")
    else:
        how = ("False", "NotAccepted", "not all names are accepted")
    return with_condition(status, ("Established", *how), now)


def _approval(obj: JsonObject) -> tuple[str, str, str, str]:
    kind = "KubernetesAPIApprovalPolicyConformant"
    text = (obj["metadata"].get("annotations") or {}).get(APPROVAL, "")
    if text.startswith(("http://", "https://")):
        return kind, "True", "ApprovedAnnotation", f"approved in {text}"
    if text.startswith("unapproved"):
        return kind, "False", "UnapprovedAnnotation", f'not approved: "{text}"'
    why = f'protected groups must have approval annotation "{APPROVAL}" with either a URL or a reason starting with '
    return kind, "False", "InvalidAnnotation", why + f'"unapproved", was: "{text}"'


_REASONS = {
    "plural": "PluralConflict",
    "singular": "SingularConflict",
    "shortNames": "ShortNamesConflict",
    "kind": "KindConflict",
    "listKind": "ListKindConflict",
}


def _accepted(
    wanted: JsonObject, accepted: JsonObject, rivals: list[JsonObject]
) -> tuple[JsonObject, str, str]:
    """The names that a definition may have, and the reason and the message of NamesAccepted."""
    names = {
        name
        for one in rivals
        for name in (one.get("plural"), one.get("singular"), *(one.get("shortNames") or ()))
        if name
    }
    kinds = {kind for one in rivals for kind in (one.get("kind"), one.get("listKind")) if kind}
    made: JsonObject = {}
    reason, message = "NoConflicts", "no conflicts found"
    for key in ("plural", "singular", "shortNames", "kind", "listKind"):
        value = wanted.get(key)
        listed = value if isinstance(value, list) else [value] if value else []
        taken = [one for one in listed if one in (kinds if key in ("kind", "listKind") else names)]
        if not taken:
            if value:
                made[key] = value
            continue
        text = ", ".join(f'"{one}" is already in use' for one in taken)
        reason, message = _REASONS[key], text if len(taken) == 1 else f"[{text}]"
        if accepted.get(key):
            made[key] = accepted[key]
    if wanted.get("categories"):
        made["categories"] = wanted["categories"]
    return {"plural": "", "kind": "", **made}, reason, message


# Resources


def priority(version: str) -> tuple[int, int, int, str]:
    """Kubernetes' order of versions: v2, v1, v1beta2, v1beta1, v1alpha1, then the others by name."""
    head, _, rest = version.partition("alpha")
    stage = 2
    if not rest:
        head, _, rest = version.partition("beta")
        stage = 1 if rest else 0
    number = head.removeprefix("v")
    if not head.startswith("v") or not number.isdigit() or (rest and not rest.isdigit()):
        return 3, 0, 0, version
    return stage, -int(number), -int(rest or 0), version


def resource_types(obj: JsonObject) -> Iterator[ResourceType]:
    """The resources of a definition: one per served version."""
    spec, names = obj["spec"], obj["status"]["acceptedNames"]
    served = [one for one in spec["versions"] if one["served"]]
    schemas = [(one.get("schema") or {}).get("openAPIV3Schema") for one in spec["versions"]]
    alike = all(one == schemas[0] for one in schemas) and obj["metadata"].get("generation", 1) == 1
    for version in served:
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {"type": "object"}
        subresources, scale = _subresources(version, names["kind"])
        yield ResourceType(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            singular=names.get("singular", ""),
            kind=names["kind"],
            list_kind=names.get("listKind", ""),
            namespaced=spec["scope"] == "Namespaced",
            verbs=frozenset(VERBS),
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            subresources=subresources,
            custom=True,
            schema=custom_type(spec["group"], version["name"], names["kind"], schema),
            selectable_fields=tuple(
                one["jsonPath"].removeprefix(".") for one in version.get("selectableFields") or ()
            ),
            columns=tuple(version.get("additionalPrinterColumns") or ()),
            openapi=schema,
            scale_paths=scale,
            deprecation=_deprecation(spec["group"], names["kind"], version, served),
            as_stored=alike,
        )


def _subresources(
    version: JsonObject, kind: str
) -> tuple[dict[str, Subresource], tuple[str, str, str] | None]:
    given = version.get("subresources") or {}
    made: dict[str, Subresource] = {}
    if "status" in given:
        made["status"] = Subresource(name="status", kind=kind, verbs=_STATUS)
    scale = given.get("scale")
    if not scale:
        return made, None
    made["scale"] = Subresource(name="scale", kind="Scale", verbs=_STATUS, group="autoscaling", version="v1")
    paths = (scale["specReplicasPath"], scale["statusReplicasPath"], scale.get("labelSelectorPath") or "")
    return made, paths


def _deprecation(group: str, kind: str, version: JsonObject, served: list[JsonObject]) -> str:
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning") is not None:
        return str(version["deprecationWarning"])
    better = [
        one["name"]
        for one in served
        if not one.get("deprecated") and priority(one["name"]) < priority(version["name"])
    ]
    text = f"{group}/{version['name']} {kind} is deprecated"
    return f"{text}; use {group}/{min(better, key=priority)} {kind}" if better else text
