"""ValidatingAdmissionPolicies: the status says which generation was looked at, and what its expressions get wrong."""

from __future__ import annotations

from kubesim.controllers.workqueue import WorkQueue, work
from kubesim.schema.policy_types import type_warnings
from kubesim.schema.registry import builtin
from kubewire.client import Client
from kubewire.informer import Change, Informers
from kubewire.requests import JsonObject
from kubewire.resources import Resource

POLICIES = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False
)


class PolicyStatus:
    """Keys are names of policies."""

    name = "validating admission policy status"

    def __init__(self, client: Client, informers: Informers) -> None:
        self._client = client
        self._policies = informers.of(POLICIES)
        self._queue = WorkQueue()
        self._policies.subscribe(self._changed)

    def _changed(self, change: Change) -> None:
        self._queue.add(change.key)

    async def run(self) -> None:
        """Work until cancelled."""
        await work(self.name, self._queue, self.reconcile)

    async def reconcile(self, name: str) -> float | None:
        """Bring the status of one policy up to its generation."""
        policy = self._policies.get(name)
        if policy is None or (policy.get("status") or {}).get("observedGeneration") == _generation(policy):
            return None
        status = {**(policy.get("status") or {}), **status_of(policy)}
        await self._client.replace(POLICIES, {**policy, "status": status}, subresource="status")
        return None


def _generation(policy: JsonObject) -> int:
    return int(policy["metadata"].get("generation", 0))


def status_of(policy: JsonObject) -> JsonObject:
    """What a policy's status says about its present generation."""
    warnings = type_warnings(policy, builtin())
    checking: JsonObject = {"expressionWarnings": warnings} if warnings else {}
    return {"observedGeneration": _generation(policy), "typeChecking": checking}
