"""Pods that nobody will ever end: removed when their node is gone, or when too many finished ones have gathered.

A pod whose node has no Node object has no kubelet that could report its end. The node is given a quarantine in which
it may come back, and is asked for at the API server once more before its pods are taken for lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from kubesim import clock
from kubewire.client import Client
from kubewire.errors import KubeError, NotFound
from kubewire.informer import Informers, Object
from kubewire.resources import NODES, PODS

log = logging.getLogger(__name__)

QUARANTINE = 40.0
PERIOD = 20.0
MOST_FINISHED = 12_500


class PodCollector:
    """Looks at all pods once in a while."""

    name = "pod garbage collector"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        *,
        period: float = PERIOD,
        quarantine: float = QUARANTINE,
        most_finished: int = MOST_FINISHED,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._client = client
        self._pods = informers.of(PODS)
        self._nodes = informers.of(NODES)
        self._period = period
        self._quarantine = quarantine
        self._most_finished = most_finished
        self._now = now
        self._missing: dict[str, float] = {}  # node name -> since when it was not seen, by the clock

    async def run(self) -> None:
        """Work until cancelled."""
        await self._pods.synced.wait()
        await self._nodes.synced.wait()
        while True:
            await clock.sleep(self._period)
            try:
                await self.collect(clock.monotonic())
            except KubeError as error:
                log.warning("%s: %s", self.name, error)

    async def collect(self, at: float) -> None:
        """One look."""
        pods = self._pods.all()
        for pod in surplus(pods, self._most_finished):
            await self._remove(pod)
        for pod in pods:
            if "deletionTimestamp" in pod["metadata"] and not pod["spec"].get("nodeName"):
                await self._remove(pod)
        for node in await self._lost_nodes(pods, at):
            for pod in pods:
                if pod["spec"].get("nodeName") == node:
                    await self._orphan(pod, node)

    async def _lost_nodes(self, pods: Iterable[Object], at: float) -> list[str]:
        used = {name for pod in pods if (name := pod["spec"].get("nodeName"))}
        missing = {name for name in used if self._nodes.get(name) is None}
        self._missing = {name: self._missing.get(name, at) for name in missing}
        lost = []
        for name, since in self._missing.items():
            if at - since < self._quarantine:
                continue
            try:
                await self._client.get(NODES, name)
            except NotFound:
                lost.append(name)
        return lost

    async def _orphan(self, pod: Object, node: str) -> None:
        metadata = pod["metadata"]
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists",
                "lastTransitionTime": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            others = [
                one
                for one in pod.get("status", {}).get("conditions", [])
                if one["type"] != "DisruptionTarget"
            ]
            status = {"phase": "Failed", "conditions": [*others, condition]}
            try:
                await self._client.patch(
                    PODS, metadata["name"], {"status": status}, metadata["namespace"], subresource="status"
                )
            except NotFound:
                return
        log.info("pod %s/%s: its node %s no longer exists", metadata["namespace"], metadata["name"], node)
        await self._remove(pod)

    async def _remove(self, pod: Object) -> None:
        metadata = pod["metadata"]
        try:
            await self._client.delete(
                PODS, metadata["name"], metadata["namespace"], grace_period=0, uid=metadata["uid"]
            )
        except NotFound:
            pass  # gone already, which is what was wanted


def surplus(pods: Iterable[Object], most: int) -> list[Object]:
    """The oldest finished pods beyond the number that may stay."""
    finished = [pod for pod in pods if pod.get("status", {}).get("phase") in ("Succeeded", "Failed")]
    if len(finished) <= most:
        return []
    finished.sort(key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]))
    return finished[: len(finished) - most]
