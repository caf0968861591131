"""What the scheduler tells: the PodScheduled condition and the events, in the real scheduler's words. Pure."""

from __future__ import annotations

import os
from datetime import datetime

from kubesim.scheduler.model import Object, PodInfo


def binding(pod: PodInfo, node: str) -> Object:
    """What binds the pod to the node."""
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }


def unschedulable(
    pod: PodInfo, message: str, now: datetime, nominated: str | None, *, clears: bool = False
) -> Object:
    """The status patch of a pod that fits nowhere; `clears` takes an earlier nomination back."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "observedGeneration": pod.generation,
        "lastProbeTime": None,
        "lastTransitionTime": seconds(now),
    }
    status: Object = {"conditions": [condition]}
    if nominated or clears:
        status["nominatedNodeName"] = nominated
    return {"status": status}


def disrupted(pod: PodInfo, scheduler: str, now: datetime) -> Object:
    """The status patch of a pod that has to make room."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": f"{scheduler}: preempting to accommodate a higher priority pod",
        "observedGeneration": pod.generation,
        "lastProbeTime": None,
        "lastTransitionTime": seconds(now),
    }
    return {"status": {"conditions": [condition]}}


def scheduled_event(pod: PodInfo, node: str, scheduler: str, now: datetime) -> Object:
    """Said once for each pod."""
    message = f"Successfully assigned {pod.namespace}/{pod.name} to {node}"
    return _event(pod, "Normal", "Scheduled", "Binding", message, scheduler, now)


def failed_event(pod: PodInfo, message: str, scheduler: str, now: datetime) -> Object:
    """Said when the reason is new."""
    return _event(pod, "Warning", "FailedScheduling", "Scheduling", message, scheduler, now)


def series(count: int, now: datetime) -> Object:
    """How often an event has been said."""
    return {"count": count, "lastObservedTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}


def preempted_event(victim: PodInfo, pod: PodInfo, node: str, scheduler: str, now: datetime) -> Object:
    """Said of the victim."""
    message = f"Preempted by pod {pod.uid} on node {node}"
    return _event(victim, "Normal", "Preempted", "Preempting", message, scheduler, now)


def seconds(at: datetime) -> str:
    """As the API writes times."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _event(
    pod: PodInfo, kind: str, reason: str, action: str, message: str, scheduler: str, now: datetime
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pod.name}.{int(now.timestamp() * 1e9):x}", "namespace": pod.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
        },
        "type": kind,
        "reason": reason,
        "action": action,
        "message": message[:1024],
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingComponent": scheduler,
        "reportingInstance": f"{scheduler}-{os.uname().nodename}",
    }
