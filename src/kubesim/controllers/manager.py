"""All controllers, side by side, as long as the manager runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from kubesim.controllers.accounts import AccountsController
from kubesim.controllers.aggregation import RoleAggregation
from kubesim.controllers.cronjob import CronJobController
from kubesim.controllers.daemonset import DaemonSetController
from kubesim.controllers.deployment import DeploymentController
from kubesim.controllers.disruption import DisruptionController
from kubesim.controllers.endpoints import EndpointsController
from kubesim.controllers.endpointslices import EndpointSliceController
from kubesim.controllers.ephemeral import EphemeralVolumes
from kubesim.controllers.eventttl import EventExpiry
from kubesim.controllers.family import Indexes
from kubesim.controllers.garbage import GarbageCollector
from kubesim.controllers.hpa import Autoscaler
from kubesim.controllers.job import JobController
from kubesim.controllers.mirroring import EndpointsMirror
from kubesim.controllers.namespaces import NamespaceController
from kubesim.controllers.nodelife import NodeLifecycle
from kubesim.controllers.podgc import PodCollector
from kubesim.controllers.policystatus import PolicyStatus
from kubesim.controllers.quota import QuotaController
from kubesim.controllers.replicaset import ReplicaSetController, ReplicationControllerController
from kubesim.controllers.statefulset import StatefulSetController
from kubesim.controllers.ttl import TtlController
from kubesim.controllers.volumebinding import VolumeBinder
from kubesim.controllers.volumeprotection import ClaimProtection, VolumeProtection
from kubewire.client import Client
from kubewire.informer import Informers

log = logging.getLogger(__name__)

_REVIVAL = 1.0


class Controller(Protocol):
    """Something that makes the world as it should be, again and again."""

    @property
    def name(self) -> str:
        """What it is called in logs."""

    async def run(self) -> None:
        """Work until cancelled."""


def all_controllers(client: Client, informers: Informers, *, ca_pem: str) -> list[Controller]:
    """One of each; those that pods wait for come first."""
    indexes = Indexes(informers)
    return [
        AccountsController(client, informers, ca_pem),
        NamespaceController(client, informers),
        NodeLifecycle(client, informers),
        PodCollector(client, informers),
        GarbageCollector(client, informers),
        ReplicaSetController(client, indexes),
        ReplicationControllerController(client, indexes),
        DeploymentController(client, indexes),
        JobController(client, indexes),
        TtlController(client, indexes),
        CronJobController(client, indexes),
        StatefulSetController(client, indexes),
        DaemonSetController(client, informers, indexes),
        DisruptionController(client, indexes),
        EndpointsController(client, indexes),
        EndpointSliceController(client, informers, indexes),
        EndpointsMirror(client, indexes),
        Autoscaler(client, informers, indexes),
        EphemeralVolumes(client, informers),
        VolumeBinder(client, informers),
        ClaimProtection(client, informers),
        VolumeProtection(client, informers),
        EventExpiry(client),
        QuotaController(client, informers),
        RoleAggregation(client, informers),
        PolicyStatus(client, informers),
    ]


async def run_all(controllers: list[Controller]) -> None:
    """Run them until cancelled."""
    async with asyncio.TaskGroup() as group:
        for controller in controllers:
            group.create_task(_kept_up(controller), name=f"controller: {controller.name}")


async def _kept_up(controller: Controller) -> None:
    """Run it, and again when it fails: its queue and its subscriptions are still there."""
    while True:
        try:
            await controller.run()
        except Exception:
            log.exception("controller %s failed; it starts again in %g s", controller.name, _REVIVAL)
        await asyncio.sleep(_REVIVAL)
