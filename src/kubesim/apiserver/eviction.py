"""pods/NAME/eviction: a deletion that asks the disruption budgets first."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from kubesim import errors
from kubesim.apiserver.calls import Call
from kubesim.apiserver.core import Core
from kubesim.apiserver.deleting import delete_one
from kubesim.apiserver.objects import encode
from kubesim.apiserver.options import DeleteOptions, read_delete_options, write_options
from kubesim.apiserver.requests import JsonObject, Reply
from kubesim.apiserver.selectors import from_object
from kubesim.apiserver.writing import attempt, change_raw, read_as
from kubesim.schema.registry import ResourceType
from kubesim.store import RevisionMismatch, Stored

_BUDGETS = "policy/poddisruptionbudgets"
_ATTEMPTS = 20
_KIND = ("policy", "v1", "Eviction")
_MANY = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


async def evict(core: Core, call: Call) -> Reply:
    options = write_options(call.request, "CreateOptions")
    eviction = read_as(call, "policy", "v1", "Eviction", options).obj
    name = eviction["metadata"].get("name")
    if name and name != call.name:
        raise errors.bad_request(f"name in URL does not match name in Eviction object: {call.name} != {name}")
    deletion = read_delete_options(eviction.get("deleteOptions") or {})
    dry_run = deletion.dry_run or options.dry_run
    call.head()
    asked = replace(attempt(call, "CREATE", options, call.name, of=_KIND), dry_run=dry_run)
    await core.admission.ask(core, asked, eviction)
    pod = call.renderer.decoded(call.head())
    if _protected(pod):
        await _spend(core, call, pod, dry_run)
        if not dry_run:
            await change_raw(core, call, lambda old: _disrupted(core, old), options)
    await delete_one(
        core,
        call,
        call.key,
        DeleteOptions(
            dry_run=dry_run,
            grace=deletion.grace,
            policy=deletion.policy,
            uid=deletion.uid,
            version=deletion.version,
        ),
        admitted=True,
    )
    success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
    return call.renderer.status(success, 201)


def _protected(pod: JsonObject) -> bool:
    """Whether a budget has a say: not over pods that have ended, have not begun, or are going already."""
    phase = pod.get("status", {}).get("phase")
    return phase not in ("Succeeded", "Failed", "Pending") and not pod["metadata"].get("deletionTimestamp")


def _ready(pod: JsonObject) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


async def _spend(core: Core, call: Call, pod: JsonObject, dry_run: bool) -> None:
    """Take one allowed disruption from the pod's budget. Raises 429 when there is none."""
    rt = core.registry.find("policy", "v1", "poddisruptionbudgets")
    if rt is None:
        return
    for _ in range(_ATTEMPTS):
        found = _budgets(core, rt, pod)
        if len(found) > 1:
            raise errors.unclassified(_MANY)
        if not found:
            return
        stored, budget = found[0]
        changed = _spent(core, budget, pod)
        if changed is None or dry_run:
            return
        try:
            await core.store.update(_BUDGETS, stored.name, stored.revision, partial(encode, changed))
        except RevisionMismatch:
            continue
        return
    raise errors.too_many_requests(_REFUSED, retry_after=10)


def _budgets(core: Core, rt: ResourceType, pod: JsonObject) -> list[tuple[Stored, JsonObject]]:
    labels = pod["metadata"].get("labels") or {}
    found = []
    for stored in core.store.table(_BUDGETS).all(pod["metadata"]["namespace"]):
        budget = core.decoded.get(stored, rt)
        selector = budget["spec"].get("selector")
        if selector is not None and from_object(selector).matches(labels):
            found.append((stored, budget))
    return found


def _spent(core: Core, budget: JsonObject, pod: JsonObject) -> JsonObject | None:
    """The budget with this pod among the disrupted ones; None when the pod does not count."""
    status = budget.get("status") or {}
    policy = budget["spec"].get("unhealthyPodEvictionPolicy")
    if not _ready(pod) and (
        policy == "AlwaysAllow" or status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0
    ):
        return None
    name = budget["metadata"]["name"]
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        cause = f"The disruption budget {name} is still being processed by the server."
        raise errors.too_many_requests(
            _REFUSED, retry_after=10, causes=[{"reason": "DisruptionBudget", "message": cause}]
        )
    allowed = status.get("disruptionsAllowed", 0)
    if allowed <= 0:
        cause = (
            f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods and has "
            f"{status.get('currentHealthy', 0)} currently"
        )
        raise errors.too_many_requests(_REFUSED, causes=[{"reason": "DisruptionBudget", "message": cause}])
    disrupted = {**(status.get("disruptedPods") or {}), pod["metadata"]["name"]: core.environment.timestamp()}
    made = {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": disrupted}
    return {**budget, "status": made}


def _disrupted(core: Core, pod: JsonObject) -> JsonObject:
    status = pod.get("status", {})
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": core.environment.timestamp(),
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    conditions = [one for one in status.get("conditions") or () if one.get("type") != "DisruptionTarget"]
    return {**pod, "status": {**status, "conditions": [*conditions, condition]}}
