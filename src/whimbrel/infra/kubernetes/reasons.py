"""What a pod's state means, in the user's words: above all, why it does not run. Pure: objects in, sentences out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from whimbrel.infra.base import NodeState

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_BROKEN = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")
_UNASKED = re.compile(r"\s*(?:no new claims to deallocate,?)?\s*preemption:|\s*no new claims to deallocate")
_HOPELESS = ("InvalidImageName", "ErrImageNeverPull")
_ENDINGS = {
    "OOMKilled": "it used more memory than it was given",
    "Evicted": "its machine was short of something and evicted it",
    "Preempted": "something more important took its place",
    "NodeLost": "its machine was lost",
    "NodeShutdown": "its machine was shut down",
    "Terminated": "its machine was shut down",
    "DeadlineExceeded": "its time was over",
    "StartError": "its command could not be started",
    "ContainerCannotRun": "its command could not be started",
}


def node_state(
    pod: Mapping[str, Any] | None, rank: int, name: str, events: Iterable[Mapping[str, Any]] = ()
) -> NodeState:
    """A pod as a node of a cluster; None is a pod that is not there."""
    if pod is None:
        return NodeState(rank=rank, name=name, phase="absent")
    status = pod.get("status") or {}
    return NodeState(
        rank=rank,
        name=name,
        phase=phase(pod),
        ip=status.get("podIP") or "",
        host=(pod.get("spec") or {}).get("nodeName") or "",
        message=why(pod, events),
    )


def with_message(state: NodeState, message: str) -> NodeState:
    """The same with another message."""
    return replace(state, message=message)


def phase(pod: Mapping[str, Any]) -> str:
    """One of the phases of `NodeState`."""
    if pod["metadata"].get("deletionTimestamp"):
        return "deleting"
    found = (pod.get("status") or {}).get("phase") or "Pending"
    if found in ("Succeeded", "Failed"):
        return "ended"
    if found != "Running":
        return "pending"
    state = _container(pod).get("state") or {}
    if "terminated" in state:
        return "ended"
    return "running" if "running" in state else "pending"


def why(pod: Mapping[str, Any], events: Iterable[Mapping[str, Any]] = ()) -> str:
    """Why it does not run; empty when it does."""
    found = phase(pod)
    if found == "running":
        return ""
    if found == "deleting":
        return _why_deleting(pod)
    if found == "ended":
        return _why_ended(pod)
    return _why_pending(pod, events)


def unschedulable(pod: Mapping[str, Any]) -> bool:
    """Whether the scheduler has found no machine for it."""
    return _condition(pod, "PodScheduled").get("reason") == "Unschedulable"


def hopeless(pod: Mapping[str, Any]) -> bool:
    """Whether waiting cannot mend it."""
    waiting = (_container(pod).get("state") or {}).get("waiting") or {}
    return waiting.get("reason") in _HOPELESS


def _why_deleting(pod: Mapping[str, Any]) -> str:
    finalizers = pod["metadata"].get("finalizers") or []
    if finalizers:
        return f"it is being deleted and waits for the finalizers {', '.join(finalizers)}"
    return "it is being deleted"


def _why_ended(pod: Mapping[str, Any]) -> str:
    status = pod.get("status") or {}
    ended = (_container(pod).get("state") or {}).get("terminated") or {}
    for reason in (status.get("reason"), ended.get("reason")):
        if reason in _ENDINGS:
            said = status.get("message") or ended.get("message") or ""
            return _sentence(_ENDINGS[reason], said)
    if "exitCode" in ended:
        return _sentence(f"it ended with exit code {ended['exitCode']}", ended.get("message") or "")
    return status.get("message") or "it ended"


def _why_pending(pod: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> str:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("reason") == "Unschedulable":
        said = _sentence("no machine can take it", _shorter(scheduled.get("message") or ""))
        scaling = _scaling(events)
        return f"{said}; {scaling}" if scaling else said
    if scheduled.get("reason") == "SchedulingGated":
        return "something holds it back from the scheduler (a scheduling gate, such as a queue)"
    host = (pod.get("spec") or {}).get("nodeName")
    if not host:
        return "it waits for the scheduler"
    if (pod.get("status") or {}).get("phase") == "Unknown":
        return f"its machine {host} does not answer"
    waiting = (_container(pod).get("state") or {}).get("waiting") or {}
    reason, said = waiting.get("reason") or "", waiting.get("message") or ""
    if reason in _IMAGE:
        image = _container(pod).get("image") or "?"
        return _sentence(f"the image {image} cannot be pulled ({reason})", said)
    if reason in _BROKEN:
        return _sentence(f"its container cannot be started ({reason})", said)
    warning = _last_warning(events)
    if warning:
        return _sentence(f"it is not starting on {host}", warning)
    return f"it is starting on {host}"


def _last_warning(events: Iterable[Mapping[str, Any]]) -> str:
    warnings = [event for event in events if event.get("type") == "Warning"]
    warnings.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    if not warnings:
        return ""
    return f"{warnings[-1].get('reason', '')}: {warnings[-1].get('message', '')}"


def _scaling(events: Iterable[Mapping[str, Any]]) -> str:
    """What an autoscaler has said last about a pod without a machine (cluster-autoscaler's and Karpenter's events)."""
    told = sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    for event in reversed(told):
        if event.get("reason") in ("TriggeredScaleUp", "Nominated"):
            return _sentence("a machine is being added for it", event.get("message") or "")
        if event.get("reason") == "NotTriggerScaleUp":
            return _sentence("the autoscaler adds no machine for it", event.get("message") or "")
    return ""


def _shorter(message: str) -> str:
    """Without what the scheduler says about preemption and device claims: nobody had asked."""
    return _UNASKED.split(message)[0].strip()


def _sentence(text: str, said: str) -> str:
    said = " ".join(said.split())
    return f"{text}: {said[:300]}" if said else text


def _container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        return status  # type: ignore[no-any-return] # JSON
    return {}


def _condition(pod: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == kind and condition.get("status") == "False":
            return condition  # type: ignore[no-any-return] # JSON
    return {}
