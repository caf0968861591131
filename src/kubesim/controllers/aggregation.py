"""ClusterRoles that aggregate have the rules of all those that their selectors take: `admin`, `edit` and `view` grow
with what an installed operator labels for them."""

from __future__ import annotations

from kubesim.apiserver.rbac.rules import aggregated
from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.informer import Change, Informers
from kubewire.resources import CLUSTER_ROLES


class RoleAggregation:
    """Keys are names of ClusterRoles that aggregate."""

    name = "cluster role aggregation"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._roles = informers.of(CLUSTER_ROLES)
        self._queue = WorkQueue()
        self._roles.subscribe(self._changed)

    def _changed(self, change: Change) -> None:
        if not self._roles.synced.is_set():
            return  # all are looked at when the mirror is whole
        for name in self._roles:
            role = self._roles.get(name)
            if role is not None and role.get("aggregationRule"):
                self._queue.add(name)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._roles.synced.wait()
        for role in self._roles.all():
            if role.get("aggregationRule"):
                self._queue.add(role["metadata"]["name"])
        await work(self.name, self._queue, self.reconcile)

    async def reconcile(self, name: str) -> float | None:
        """Give one role the rules that it should have."""
        role = self._roles.get(name)
        if role is None or not role.get("aggregationRule"):
            return None
        rules = aggregated(role, self._roles.all())
        if (role.get("rules") or []) != rules:
            await self._client.replace(CLUSTER_ROLES, {**role, "rules": rules})
        return None
