"""HorizontalPodAutoscalers: every fifteen seconds, as many replicas as the target's pods turn out to need.

The arithmetic is in `hpamath`, how fast it may be followed in `hpabehavior`, and what is asked of the API server in
`hpatarget`. Metrics of the types Resource and ContainerResource come from `metrics.k8s.io`; Pods, Object and External
need a metrics adapter, which no cluster of kubesim has: they are reported as failing, in the real autoscaler's words.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from kubesim.apiserver.selectors import parse_label_selector
from kubesim.controllers.family import Indexes, write_status
from kubesim.controllers.hpabehavior import Past, allowed, tolerance_of
from kubesim.controllers.hpamath import Answer, NoAnswer, by_average, by_utilization
from kubesim.controllers.hpatarget import Targets
from kubesim.controllers.objects import labels_of, seconds, status_of
from kubesim.controllers.recorder import NORMAL, WARNING, Recorder
from kubesim.controllers.workqueue import WorkQueue, work
from kubesim.errors import StatusError
from kubesim.schema.quantity import Quantity, parse
from kubewire.client import Client
from kubewire.errors import KubeError
from kubewire.informer import Change, Informers, Object
from kubewire.resources import HORIZONTAL_POD_AUTOSCALERS, PODS

PERIOD = 15.0
_MILLI = 1_000_000
_UNABLE = "the HPA was unable to compute the replica count: {}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    """What one metric, or all of them, ask for."""

    replicas: int
    name: str
    statuses: tuple[Object, ...]


class _Failing(Exception):
    """A metric could not be read: a condition's reason, and the message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Autoscaler:
    """Keys are those of HorizontalPodAutoscalers."""

    name = "horizontal pod autoscaler"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        indexes: Indexes,
        *,
        period: float = PERIOD,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._autoscalers = informers.of(HORIZONTAL_POD_AUTOSCALERS)
        self._pods = indexes.of(PODS)
        self._targets = Targets(client)
        self._period = period
        self._now = now
        self._clock = clock
        self._past: dict[str, Past] = {}
        self._queue = WorkQueue()
        self._recorder = Recorder(client, "horizontal-pod-autoscaler", now=now)
        self._autoscalers.subscribe(self._changed)

    async def run(self) -> None:
        """Work until cancelled."""
        await self._autoscalers.synced.wait()
        await self._pods.informer.synced.wait()
        await work(self.name, self._queue, self.reconcile, workers=2)

    def _changed(self, change: Change) -> None:
        old, new = change.old, change.new
        if new is None:
            self._past.pop(change.key, None)
        if old is None or new is None or old["spec"] != new["spec"]:
            self._queue.add(change.key)

    async def reconcile(self, key: str) -> float | None:
        """One look at one autoscaler."""
        hpa = self._autoscalers.get(key)
        if hpa is None:
            return None
        look = _Look(hpa, self._now())
        try:
            await self._follow(key, hpa, look)
        finally:
            if look.status != status_of(hpa):
                await write_status(self._client, HORIZONTAL_POD_AUTOSCALERS, hpa, look.status)
        return self._period

    async def _follow(self, key: str, hpa: Object, look: _Look) -> None:
        try:
            scale = await self._targets.scale(hpa)
        except (KubeError, NoAnswer) as error:
            text = f"the HPA controller was unable to get the target's current scale: {error}"
            look.set("AbleToScale", "False", "FailedGetScale", text)
            await self._say(hpa, WARNING, "FailedGetScale", str(error))
            return
        text = "the HPA controller was able to get the target's current scale"
        look.set("AbleToScale", "True", "SucceededGetScale", text)
        current = int((scale.get("spec") or {}).get("replicas", 0))
        look.counts(int(scale["status"].get("replicas", 0)), current)
        past = self._past.setdefault(key, Past(recommended=[(self._clock(), current)]))
        spec = hpa["spec"]
        least, most = int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])
        if current == 0 and least != 0:
            text = "scaling is disabled since the replica count of the target is zero"
            look.set("ScalingActive", "False", "ScalingDisabled", text)
            return
        if current > most:
            await self._rescale(
                hpa, look, scale, most, "Current number of replicas above Spec.MaxReplicas", past
            )
        elif current < least:
            await self._rescale(
                hpa, look, scale, least, "Current number of replicas below Spec.MinReplicas", past
            )
        else:
            await self._measure(hpa, look, scale, current, past)

    async def _measure(self, hpa: Object, look: _Look, scale: Object, current: int, past: Past) -> None:
        proposal = await self._proposed(hpa, look, scale, current)
        if proposal is None:
            return
        look.status["currentMetrics"] = list(proposal.statuses)
        now = self._clock()
        limit = allowed(hpa, current, proposal.replicas, past, now)
        look.set("AbleToScale", "True", *limit.able)
        look.set("ScalingLimited", "True" if limit.limited else "False", *limit.limit)
        why = f"{proposal.name} above target" if limit.replicas > current else "All metrics below target"
        if limit.replicas != current:
            await self._rescale(hpa, look, scale, limit.replicas, why, past)

    async def _rescale(
        self, hpa: Object, look: _Look, scale: Object, wanted: int, why: str, past: Past
    ) -> None:
        current = int((scale.get("spec") or {}).get("replicas", 0))
        changed = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": wanted}}
        try:
            await self._targets.set_scale(hpa, changed)
        except KubeError as error:
            text = f"the HPA controller was unable to update the target scale: {error}"
            look.set("AbleToScale", "False", "FailedUpdateScale", text)
            text = f"New size: {wanted}; reason: {why}; error: {error}"
            await self._say(hpa, WARNING, "FailedRescale", text)
            return
        text = f"the HPA controller was able to update the target scale to {wanted}"
        look.set("AbleToScale", "True", "SucceededRescale", text)
        look.status |= {"desiredReplicas": wanted, "lastScaleTime": seconds(self._now())}
        past.changed.append((self._clock(), wanted - current))
        await self._say(hpa, NORMAL, "SuccessfulRescale", f"New size: {wanted}; reason: {why}")

    async def _proposed(self, hpa: Object, look: _Look, scale: Object, current: int) -> _Proposal | None:
        """The largest number that a metric asks for; None, and said, when too little is known."""
        selector = scale["status"].get("selector", "")
        if not selector:
            look.set(
                "ScalingActive", "False", "InvalidSelector", "the HPA target's scale is missing a selector"
            )
            await self._say(hpa, WARNING, "SelectorRequired", "selector is required")
            return None
        metrics = hpa["spec"].get("metrics") or ()
        best: _Proposal | None = None
        statuses: list[Object] = []
        failures: list[_Failing] = []
        for metric in metrics:
            try:
                found = await self._one(hpa, metric, selector, current)
            except _Failing as failure:
                failures.append(failure)
                await self._say(hpa, WARNING, failure.reason, str(failure))
                continue
            statuses += found.statuses
            if best is None or found.replicas > best.replicas:
                best = found
        if best is None or (failures and best.replicas < current):
            first = failures[0] if failures else _Failing("InvalidMetricSourceType", "no metrics")
            look.set("ScalingActive", "False", first.reason, _UNABLE.format(first))
            count = f"{len(failures)} invalid out of {len(metrics)}"
            text = f"invalid metrics ({count}), first error is: {first}"
            await self._say(hpa, WARNING, "FailedComputeMetricsReplicas", text)
            return None
        text = f"the HPA was able to successfully calculate a replica count from {best.name}"
        look.set("ScalingActive", "True", "ValidMetricFound", text)
        return _Proposal(replicas=best.replicas, name=best.name, statuses=tuple(statuses))

    async def _one(self, hpa: Object, metric: Object, selector: str, current: int) -> _Proposal:
        kind = metric["type"]
        if kind not in ("Resource", "ContainerResource"):
            raise _unserved(kind, metric)
        key = "resource" if kind == "Resource" else "containerResource"
        source = metric[key]
        resource, container = source["name"], source.get("container", "")
        average = source["target"].get("averageValue")
        what = "usage" if average is not None else "utilization"
        try:
            answer = await self._answer(hpa, source, selector, current)
        except NoAnswer as error:
            raise _Failing(f"FailedGet{kind}Metric", f"failed to get {resource} {what}: {error}") from None
        shown: Object = {"averageValue": str(Quantity(answer.average * _MILLI))}
        if answer.utilization is not None:
            shown["averageUtilization"] = answer.utilization
        status = {"type": kind, key: {"name": resource, "current": shown}}
        if container:
            status[key]["container"] = container
        label = f"{resource} {'container ' if container else ''}resource"
        name = label if average is not None else f"{label} utilization (percentage of request)"
        return _Proposal(replicas=answer.replicas, name=name, statuses=(status,))

    async def _answer(self, hpa: Object, source: Object, selector: str, current: int) -> Answer:
        namespace, resource = hpa["metadata"]["namespace"], source["name"]
        container = source.get("container", "")
        try:
            chosen = parse_label_selector(selector)
        except StatusError as error:
            raise NoAnswer(str(error)) from None
        samples = await self._targets.samples(namespace, selector, resource, container)
        pods = [pod for pod in self._pods.within(namespace) if chosen.matches(labels_of(pod))]
        tolerance, now, target = tolerance_of(hpa), self._now(), source["target"]
        if target.get("averageValue") is not None:
            wanted = parse(str(target["averageValue"])).milli
            return by_average(current, wanted, resource, pods, samples, tolerance, now)
        wanted = int(target["averageUtilization"])
        return by_utilization(current, wanted, resource, pods, samples, tolerance, now, container=container)

    async def _say(self, hpa: Object, kind: str, reason: str, message: str) -> None:
        await self._recorder.say(HORIZONTAL_POD_AUTOSCALERS, hpa, kind, reason, message)


class _Look:
    """The status as it will be written after one look."""

    def __init__(self, hpa: Object, now: datetime) -> None:
        before = status_of(hpa)
        self.now = now
        self.status: Object = {
            key: before[key] for key in ("lastScaleTime", "currentMetrics", "conditions") if key in before
        }
        self.status |= {"desiredReplicas": before.get("desiredReplicas", 0)}
        if "currentReplicas" in before:
            self.status["currentReplicas"] = before["currentReplicas"]

    def counts(self, current: int, desired: int) -> None:
        """How many there are, and how many there are to be as long as nothing is decided."""
        self.status |= {"currentReplicas": current, "desiredReplicas": desired}

    def set(self, kind: str, state: str, reason: str, message: str) -> None:
        """A condition; since when it is so stays when it was so before."""
        conditions = list(self.status.get("conditions") or ())
        old = next((one for one in conditions if one["type"] == kind), None)
        since = old["lastTransitionTime"] if old and old["status"] == state else seconds(self.now)
        made = {
            "type": kind,
            "status": state,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }
        if old is None:
            conditions.append(made)
        else:
            conditions[conditions.index(old)] = made
        self.status["conditions"] = conditions


def _unserved(kind: str, metric: Object) -> _Failing:
    """Metrics that need an adapter."""
    source = metric[kind[0].lower() + kind[1:]]
    name = source["metric"]["name"]
    if kind == "External":
        why = f"unable to get external metric {name}: unable to fetch metrics from external metrics API: "
        why += f"the server could not find the requested resource (get {name}.external.metrics.k8s.io)"
    else:
        why = f"unable to get metric {name}: unable to fetch metrics from custom metrics API: "
        why += "no custom metrics API (custom.metrics.k8s.io) registered"
    return _Failing(f"FailedGet{kind}Metric", f"failed to get {kind.lower()} metric value: {why}")
