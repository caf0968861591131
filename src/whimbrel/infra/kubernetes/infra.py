"""A Kubernetes context as an Infra: the operations of `whimbrel.infra.base` in terms of pods.

It keeps nothing but caches: what exists is asked of the API server, what should exist is the caller's record.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence

import kubewire.errors as kube
from kubewire.client import Client
from kubewire.connection import Connection
from kubewire.resources import NAMESPACES, PODS
from whimbrel.infra.base import (
    NO_PROVISION,
    Check,
    ClusterSpec,
    Inventory,
    NodeShape,
    Observation,
    Offer,
    Progress,
    Thing,
    moved,
)
from whimbrel.infra.guard import GuardView
from whimbrel.infra.kubernetes import capacity, claims, placement, pods, ports, reasons
from whimbrel.infra.kubernetes.capacity import Machine
from whimbrel.infra.kubernetes.census import PAGES, Census
from whimbrel.infra.kubernetes.claims import Claims
from whimbrel.infra.kubernetes.connection import Link, OpenClient, open_client
from whimbrel.infra.kubernetes.contexts import Contexts
from whimbrel.infra.kubernetes.ensuring import Wait
from whimbrel.infra.kubernetes.failures import understood
from whimbrel.infra.kubernetes.node import KubernetesNode
from whimbrel.infra.kubernetes.objects import Found, Objects, thing_of
from whimbrel.infra.kubernetes.pods import Accelerator, Spot
from whimbrel.infra.kubernetes.settings import KubernetesSettings
from whimbrel.infra.provision import Endpoint, Provision, VolumeSeen, VolumeSpec
from whimbrel.model.errors import Forbidden, InfraError, OutOfCapacity, Unreachable
from whimbrel.model.names import node_name

CHECK_BUDGET = 5.5
_FIRST_LOOK, _LAST_LOOK = 0.05, 1.0
_BY_SERVER = "server-"  # what an identity begins with that is not a UID
_SAME = 5.0
"""Seconds for which it is taken for the same cluster, over the same connection, by what only looks or runs."""


class KubernetesInfra:
    """One context."""

    def __init__(
        self,
        context: str,
        contexts: Contexts,
        settings: KubernetesSettings,
        *,
        opener: OpenClient = open_client,
    ) -> None:
        self.name = f"k8s/{context}"
        self._settings = settings
        self._link = Link(self.name, context, contexts, settings, opener=opener)
        self._objects = Objects(self._link)
        self._claims = Claims(self._link)
        self._census = Census(self._link)
        self._identified: dict[bool, tuple[Connection, str, float]] = {}  # by sort: of the server, or a UID

    @property
    def breaker(self) -> GuardView:
        """How the guard's breaker stands."""
        return self._link.guard.view

    def trouble(self) -> str:
        """See `Infra`."""
        view = self.breaker
        return view.error.message if view.error and view.state != "closed" else ""

    async def answers(self) -> bool:
        """Whether it answers now, as far as a short question tells."""
        try:
            await self._version()
        except InfraError:
            return False
        return True

    def configure(self, settings: KubernetesSettings) -> None:
        """Use other settings from now on; what runs keeps those that it began with."""
        if settings != self._settings:
            self._settings = self._link.settings = settings

    def forget_failures(self) -> None:
        """Somebody has just made it run: what was learned before does not count any more."""
        self._link.guard.reset()

    async def aclose(self) -> None:
        """Close what is open to it."""
        await self._link.aclose()

    async def check(self) -> Check:
        """See `Infra`."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(CHECK_BUDGET):
                version = await self._version()  # tells within two seconds that nobody is there
                identity = await self.identity()
                machines = await self._machines_if_allowed()
        except (InfraError, TimeoutError) as error:
            known = (
                error
                if isinstance(error, InfraError)
                else Unreachable(
                    f"{self.name} did not answer within {CHECK_BUDGET:g} s.",
                    remedy="check that it is running, and the network or VPN to it",
                )
            )
            seconds = time.monotonic() - begun
            return Check(
                infra=self.name,
                usable=False,
                reason=known.message,
                remedy=known.remedy or "",
                breaker=self.breaker.state,
                retry_in=self.breaker.retry_in,
                seconds=seconds,
                at=time.time(),
            )
        usable = [one for one in machines or () if not one.closed]
        reason = "" if machines is None or usable else capacity.why_not(machines, 1, NodeShape(cpus=0.001))
        return Check(
            infra=self.name,
            usable=machines is None or bool(usable),
            reason=reason,
            identity=identity,
            version=version,
            nodes=None if machines is None else len(machines),
            cpus=None if machines is None else sum(one.cpus for one in usable),
            memory_gib=None if machines is None else sum(one.memory_gib for one in usable),
            accelerators=capacity.accelerators(usable),
            seconds=time.monotonic() - begun,
            at=time.time(),
        )

    @understood
    async def offer(self, num_nodes: int, shape: NodeShape, provision: Provision = NO_PROVISION) -> Offer:
        """See `Infra`. Without the right to list Kubernetes nodes, what was asked is taken as feasible. A no is
        never given from an older answer: machines may have come since. Where something adds machines, there is no
        no: it is asked for them, and `provision_timeout` says for how long."""

        def why_not(machines: Sequence[Machine]) -> str:
            return capacity.why_not(placement.admitting(machines, provision), num_nodes, shape)

        try:
            known = await self._census.machines()
            reason = why_not(known.value)
            if reason and known.age > 0:
                reason = why_not((await self._census.machines(0.0, 0.0)).value)
        except Forbidden:
            reason = ""
        if reason and provision.autoscaler:
            note = f"machines have to be added by the autoscaler ({provision.autoscaler}): {reason}"
            return Offer(infra=self.name, feasible=True, note=note, shape=shape)
        return Offer(infra=self.name, feasible=not reason, reason=reason, shape=shape)

    @understood
    async def accelerators(self, patience: float) -> Inventory:
        """See `Infra`."""
        return await self._census.accelerators(patience)

    @understood
    async def identity(self, like: str = "") -> str:
        """See `Infra`: the UID of kube-system; where that may not be read, the server and its CA."""
        asked = await self._link.connection()

        async def action(client: Client) -> str:
            try:
                uid = str((await client.get(NAMESPACES, "kube-system"))["metadata"]["uid"])
            except (kube.Forbidden, kube.NotFound):
                if like and not like.startswith(_BY_SERVER):
                    raise
            else:
                if not like.startswith(_BY_SERVER):
                    return uid
            connection = await self._link.connection()
            mark = f"{connection.server}\n{connection.ca_data!r}{connection.ca_file}"
            return f"{_BY_SERVER}{hashlib.sha256(mark.encode()).hexdigest()[:32]}"

        found = await self._link.call("reading its identity", action, timeout=self._settings.deadlines.read)
        self._identified[found.startswith(_BY_SERVER)] = (asked, found, time.monotonic())
        return found

    async def _same(self, spec: ClusterSpec, *, age: float = 0.0) -> None:
        """Raise `IdentityChanged` unless this is where the cluster was made. An identity that was read over the same
        connection within `age` seconds is good enough for what destroys nothing."""
        if not spec.identity:
            return
        known = self._identified.get(spec.identity.startswith(_BY_SERVER))
        if known is None or time.monotonic() - known[2] > age or known[0] != await self._link.connection():
            found = await self.identity(spec.identity)
        else:
            found = known[1]
        if found != spec.identity:
            raise moved(self.name, spec.name)

    def things(self, spec: ClusterSpec) -> Sequence[Thing]:
        """See `Infra`."""
        return pods.things(spec, self.name, self._objects.namespace(spec))

    @understood
    async def ensure(self, spec: ClusterSpec, progress: Progress, timeout: float) -> Observation:
        """See `Infra`."""
        await self._same(spec)
        deadline = time.monotonic() + timeout
        found = await self._without_ended(spec, await self._objects.find(spec), progress, deadline)
        await self._create_missing(spec, found, progress)
        wait = Wait(self._link, self._objects, spec, progress)
        try:
            states = await wait.until_running(found, max(0.1, deadline - time.monotonic()))
        except OutOfCapacity as error:
            raise await self._with_what_is_free(error, spec) from None
        strangers = [thing_of(spec, self.name, obj) for obj in found.others if obj["kind"] == "Pod"]
        others = [thing for thing in self.things(spec) if thing.kind != "Pod"]
        opened = self._endpoints(spec, await self._objects.find(spec)) if spec.provision.ports else []
        return Observation(nodes=states, at=time.time(), others=[*strangers, *others], endpoints=opened)

    @understood
    async def observe(self, spec: ClusterSpec) -> Observation:
        """See `Infra`."""
        await self._same(spec, age=_SAME)
        return self._observation(spec, await self._objects.find(spec))

    @understood
    async def remove(self, spec: ClusterSpec, progress: Progress, timeout: float) -> Observation:
        """See `Infra`. Asks for the deletion of what it sees, looks again, until nothing is seen or the time is
        over; what was refused is told with the node or thing that it kept."""
        await self._same(spec)
        deadline = time.monotonic() + timeout
        pause, said = _FIRST_LOOK, ""
        refused: dict[str, InfraError] = {}
        while True:
            found = await self._objects.find(spec)
            seen = self._observation(spec, found, refused)
            if seen.gone or time.monotonic() >= deadline:
                return seen
            wanted = [obj for obj in found.objects() if not obj["metadata"].get("deletionTimestamp")]
            refused = await self._objects.delete(wanted)
            if wanted and len(refused) == len(wanted) == len(found.objects()):
                return self._observation(spec, found, refused)
            text = _left(seen)
            if text != said:
                progress(text)
                said = text
            await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(_LAST_LOOK, pause * 1.5)

    def home(self) -> str:
        """See `Infra`."""
        return self._link.namespace

    def volume_thing(self, spec: VolumeSpec) -> Thing:
        """See `Infra`."""
        return claims.thing(spec, self.name)

    @understood
    async def make_volume(self, spec: VolumeSpec) -> VolumeSeen:
        """See `Infra`."""
        await self._same_volume(spec)
        return await self._claims.make(spec)

    @understood
    async def observe_volume(self, spec: VolumeSpec) -> VolumeSeen:
        """See `Infra`."""
        await self._same_volume(spec)
        return await self._claims.look(spec)

    @understood
    async def remove_volume(self, spec: VolumeSpec, timeout: float) -> VolumeSeen:
        """See `Infra`."""
        await self._same_volume(spec)
        deadline, pause = time.monotonic() + timeout, _FIRST_LOOK
        while True:
            await self._claims.delete(spec)
            seen = await self._claims.look(spec)
            if not seen.phase or time.monotonic() >= deadline:
                return seen
            await asyncio.sleep(pause)
            pause = min(_LAST_LOOK, pause * 1.5)

    async def _same_volume(self, spec: VolumeSpec) -> None:
        if spec.identity and await self.identity() != spec.identity:
            raise moved(self.name, f"the volume {spec.name}")

    def node(self, spec: ClusterSpec, rank: int) -> KubernetesNode:
        """See `Infra`."""
        return KubernetesNode(
            self._link,
            node_name(spec.name, spec.uid, rank),
            lambda: self._objects.namespace(spec),
            lambda: self._same(spec, age=_SAME),
        )

    @understood
    async def named(self, things: Sequence[Thing]) -> Sequence[Thing]:
        """See `Infra`."""
        return await self._objects.named(things)

    async def _version(self) -> str:
        deadlines = self._settings.deadlines
        answer = await self._link.call(
            "asking its version", lambda client: client.version(), timeout=deadlines.probe
        )
        return str(answer.get("gitVersion") or "")

    async def _machines_if_allowed(self) -> list[Machine] | None:
        try:
            return (await self._census.machines()).value
        except Forbidden:
            return None

    async def _without_ended(
        self, spec: ClusterSpec, found: Found, progress: Progress, deadline: float
    ) -> Found:
        """What is left when pods that ended, or are being deleted, are gone: they are made anew."""
        while True:
            useless = {
                rank: pod for rank, pod in found.pods.items() if reasons.phase(pod) in ("ended", "deleting")
            }
            if not useless:
                return found
            for rank, pod in useless.items():
                progress(f"node {rank} is replaced: {reasons.why(pod)}")
            refused = await self._objects.delete(
                pod for pod in useless.values() if not pod["metadata"].get("deletionTimestamp")
            )
            if refused:
                raise next(iter(refused.values()))
            if time.monotonic() >= deadline:
                names = ", ".join(str(pod["metadata"]["name"]) for pod in useless.values())
                raise OutOfCapacity(f"{self.name}: {names} does not go away, so it cannot be made anew.")
            await asyncio.sleep(0.2)
            found = await self._objects.find(spec)

    async def _create_missing(self, spec: ClusterSpec, found: Found, progress: Progress) -> None:
        namespace = found.namespace
        missing = [rank for rank in range(spec.num_nodes) if rank not in found.pods]
        names = {(obj["kind"], obj["metadata"]["name"]) for obj in found.others}
        wanted = [
            (kind, obj)
            for kind, obj in ports.objects(spec, namespace)
            if (kind, obj["metadata"]["name"]) not in names
        ]
        if pods.has_service(spec) and ("Service", pods.service_name(spec)) not in names:
            wanted.append(("Service", pods.service(spec, namespace)))
        if missing:
            accelerator, spot = await self._placed(spec)
            wanted += [
                (
                    "Pod",
                    pods.pod(
                        spec,
                        rank,
                        namespace,
                        image=self._settings.image,
                        command=self._settings.command,
                        grace=self._settings.grace,
                        accelerator=accelerator,
                        spot=spot,
                    ),
                )
                for rank in missing
            ]
            progress(f"creating {len(missing)} node{'s' if len(missing) > 1 else ''} in {self.name}")
        outcomes = await asyncio.gather(
            *(self._objects.create(kind, obj) for kind, obj in wanted), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _placed(self, spec: ClusterSpec) -> tuple[Accelerator | None, Spot | None]:
        """How its pods ask for the machines that they need."""
        if not (spec.shape.accelerator_count or spec.provision.spot):
            return None, None
        try:
            machines = placement.admitting((await self._census.machines()).value, spec.provision)
        except Forbidden:
            machines = []
        accelerator = capacity.accelerator_for(machines, spec.shape)
        spot = placement.spot_for(machines, spec.provision)
        if spec.provision.spot and spot is None:
            raise OutOfCapacity(
                f"{self.name} has no machine that says that it is a spot machine.",
                remedy="launch without spot, or name the autoscaler in the configuration file",
            )
        return accelerator or placement.accelerator_to_come(spec.shape, spec.provision), spot

    def _observation(
        self, spec: ClusterSpec, found: Found, refused: dict[str, InfraError] | None = None
    ) -> Observation:
        states = []
        for rank in range(spec.num_nodes):
            state = reasons.node_state(found.pods.get(rank), rank, node_name(spec.name, spec.uid, rank))
            if refused and state.name in refused:
                state = reasons.with_message(state, refused[state.name].message)
            states.append(state)
        others = [thing_of(spec, self.name, obj) for obj in found.others]
        why = {name: error.message for name, error in (refused or {}).items()}
        endpoints = self._endpoints(spec, found)
        return Observation(nodes=states, at=time.time(), others=others, endpoints=endpoints, refused=why)

    def _endpoints(self, spec: ClusterSpec, found: Found) -> Sequence[Endpoint]:
        context = self.name.partition("/")[2]
        return ports.endpoints(spec, context, found.namespace, found.pods.get(0), found.others)

    async def _with_what_is_free(self, error: OutOfCapacity, spec: ClusterSpec) -> OutOfCapacity:
        """The same error with how much is free, where we may look; it only explains."""
        try:
            machines = (await self._census.machines()).value
            there = await self._link.call(
                "listing all pods",
                lambda client: client.list(PODS),
                timeout=PAGES * self._settings.deadlines.page,
            )
        except InfraError:
            return error
        said = capacity.describe_free(machines, there.items, spec.shape)
        if not said:
            return error
        return OutOfCapacity(f"{error.message} ({said})", remedy=error.remedy, details=error.details)


def _left(seen: Observation) -> str:
    there = [node for node in seen.nodes if node.phase != "absent"]
    reason = next((node.message for node in there if "finalizers" in node.message), "")
    parts = [f"{len(there)} node{'s' if len(there) != 1 else ''}"] if there else []
    if seen.others:
        parts.append(", ".join(f"{thing.kind} {thing.name}" for thing in seen.others))
    return f"removing {' and '.join(parts)}" + (f": {reason}" if reason else "")
