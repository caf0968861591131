"""Finding, creating and deleting the objects of one cluster; every call through the link.

A cluster is found by its uid in the namespace that was recorded for it, and, when something of it is missing there,
in all namespaces as far as we may look: the kubeconfig's namespace may have been changed since it was made, and what
is elsewhere must not be taken for gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import kubewire.errors as kube
from kubewire.client import Client
from kubewire.paging import ObjectList
from kubewire.resources import EVENTS, INGRESSES, PODS, SERVICES, Resource
from whimbrel.infra.base import ClusterSpec, Thing
from whimbrel.infra.kubernetes import pods
from whimbrel.infra.kubernetes.connection import Link
from whimbrel.model.errors import Forbidden, InfraError, InfraRefused
from whimbrel.model.names import node_name

_KINDS = {"Pod": PODS, "Service": SERVICES, "Ingress": INGRESSES}
_AT_ONCE = 8
"""Objects that are created or deleted at the same time: a call's deadline counts from its turn, and half of the
guard's slots stay free for others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is of a cluster."""

    pods: Mapping[int, Mapping[str, Any]]  # by rank
    others: Sequence[Mapping[str, Any]] = ()  # services, ingresses, and pods that are nobody's rank
    namespace: str = ""
    version: str = ""  # resource version of the pods' list in that namespace

    def objects(self) -> list[Mapping[str, Any]]:
        """All of it."""
        return [*self.pods.values(), *self.others]


class Objects:
    """The objects of clusters in one context."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._homes: dict[str, str] = {}  # cluster uid -> the namespace in which it was seen
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._may_look_everywhere = True

    def namespace(self, spec: ClusterSpec) -> str:
        """Where the cluster is, or would be made."""
        return self._homes.get(spec.uid) or spec.namespace or spec.provision.namespace or self._link.namespace

    async def find(self, spec: ClusterSpec) -> Found:
        """Everything that carries the cluster's uid."""
        await self._link.connection()
        home = self.namespace(spec)
        nodes, others = await self._look(spec, home)
        found = _sorted(spec, nodes.items, others, home, nodes.resource_version)
        expected = spec.num_nodes + pods.has_service(spec) + len(pods.port_kinds(spec))
        if len(found.pods) + len(others) >= expected or not self._may_look_everywhere:
            return self._remember(spec, found)
        try:
            all_nodes, all_others = await self._look(spec, None)
        except Forbidden:
            self._may_look_everywhere = False
            return self._remember(spec, found)
        elsewhere = {obj["metadata"]["namespace"] for obj in (*all_nodes.items, *all_others)} - {home}
        if not elsewhere:
            return self._remember(spec, found)
        other = min(elsewhere) if not found.objects() else home
        return self._remember(spec, _sorted(spec, all_nodes.items, all_others, other, ""))

    async def _look(self, spec: ClusterSpec, namespace: str | None) -> tuple[ObjectList, list[Any]]:
        """The pods of a cluster, and what else it may have."""
        kinds = ("Service", "Ingress") if "Ingress" in pods.port_kinds(spec) else ("Service",)
        nodes, *others = await asyncio.gather(
            *(self._list(kind, spec.uid, namespace) for kind in ("Pod", *kinds))
        )
        return nodes, [obj for found in others for obj in found.items]

    async def create(self, kind: str, obj: Mapping[str, Any]) -> None:
        """Create an object; one of the same name that is ours is as good."""
        metadata = obj["metadata"]
        resource = _KINDS[kind]
        what = f"creating {kind} {metadata['name']}"

        async def action(client: Client) -> None:
            try:
                await client.create(resource, dict(obj), metadata["namespace"], field_manager="whimbrel")
            except kube.AlreadyExists:
                there = await client.get(resource, metadata["name"], metadata["namespace"])
                if (there["metadata"].get("labels") or {}).get(pods.CLUSTER_UID) != metadata["labels"][
                    pods.CLUSTER_UID
                ]:
                    raise InfraRefused(
                        f"{self._link.name} has a {kind} {metadata['name']} that is not ours."
                    ) from None

        deadlines = self._link.settings.deadlines
        async with self._turns:
            await self._link.call(what, action, timeout=deadlines.change + deadlines.read)

    async def delete(self, objects: Iterable[Mapping[str, Any]]) -> dict[str, InfraError]:
        """Ask for the deletion of these; which ones were refused, by name."""
        wanted = list(objects)
        outcomes = await asyncio.gather(*(self._delete(obj) for obj in wanted), return_exceptions=True)
        refused: dict[str, InfraError] = {}
        for obj, outcome in zip(wanted, outcomes, strict=True):
            if isinstance(outcome, InfraError):
                refused[obj["metadata"]["name"]] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
        return refused

    async def named(self, things: Sequence[Thing]) -> list[Thing]:
        """Which of these names are taken, with the labels of what has them."""
        await self._link.connection()
        found = await asyncio.gather(*(self._named(thing) for thing in things if thing.kind in _KINDS))
        return [thing for thing in found if thing is not None]

    async def _named(self, thing: Thing) -> Thing | None:
        async def action(client: Client) -> Thing | None:
            try:
                there = await client.get(_KINDS[thing.kind], thing.name, thing.namespace)
            except kube.NotFound:
                return None
            return replace(thing, labels=dict(there["metadata"].get("labels") or {}))

        async with self._turns:
            return await self._link.call(
                f"looking for {thing.kind} {thing.name}", action, timeout=self._link.settings.deadlines.read
            )

    async def events_of(self, pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The events about a pod; none when they cannot be had: they only explain."""
        metadata = pod["metadata"]
        selector = f"involvedObject.uid={metadata['uid']}"
        try:
            found = await self._link.call(
                f"events of {metadata['name']}",
                lambda client: client.list(EVENTS, metadata["namespace"], field_selector=selector),
                timeout=self._link.settings.deadlines.read,
            )
        except InfraError:
            return []
        return list(found.items)

    async def _list(self, kind: str, uid: str, namespace: str | None) -> ObjectList:
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        return await self._link.call(
            f"listing {kind}s {where}",
            lambda client: client.list(_KINDS[kind], namespace, label_selector=pods.selector(uid)),
            timeout=self._link.settings.deadlines.page,
        )

    async def _delete(self, obj: Mapping[str, Any]) -> None:
        metadata, resource = obj["metadata"], _resource(obj)

        async def action(client: Client) -> None:
            try:
                await client.delete(
                    resource,
                    metadata["name"],
                    metadata["namespace"],
                    uid=metadata["uid"],
                    propagation="Background",
                )
            except (kube.NotFound, kube.Conflict):
                return  # gone, or another one that has our name: the next look tells

        async with self._turns:
            await self._link.call(
                f"deleting {obj['kind']} {metadata['name']}",
                action,
                timeout=self._link.settings.deadlines.change,
            )

    def _remember(self, spec: ClusterSpec, found: Found) -> Found:
        if found.objects():
            self._homes[spec.uid] = found.namespace
        else:
            self._homes.pop(spec.uid, None)
        return found


def thing_of(spec: ClusterSpec, infra: str, obj: Mapping[str, Any]) -> Thing:
    """An object as the ledger knows it."""
    metadata = obj["metadata"]
    return pods.thing(spec, infra, obj["kind"], metadata["namespace"], metadata["name"])


def _sorted(
    spec: ClusterSpec, nodes: Sequence[Any], others: Sequence[Any], namespace: str, version: str
) -> Found:
    names = {node_name(spec.name, spec.uid, rank): rank for rank in range(spec.num_nodes)}
    ranks = {names[pod["metadata"]["name"]]: pod for pod in nodes if pod["metadata"]["name"] in names}
    strangers = [pod for pod in nodes if pod["metadata"]["name"] not in names]
    return Found(pods=ranks, others=[*strangers, *others], namespace=namespace, version=version)


def _resource(obj: Mapping[str, Any]) -> Resource:
    return _KINDS[obj["kind"]]
