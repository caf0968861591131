"""The row of a pod, whose Status column sums up more than any one field says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubesim.apiserver.columns.values import NONE, Moment, at
from kubesim.errors import JsonObject


@dataclass(slots=True)
class _Summary:
    ready: int = 0
    total: int = 0
    restarts: int = 0
    last: str = ""
    reason: str = ""
    initializing: bool = False


def _condition(pod: JsonObject, kind: str) -> JsonObject | None:
    return next((one for one in at(pod, "status", "conditions", default=()) if one["type"] == kind), None)


def _true(pod: JsonObject, kind: str) -> bool:
    found = _condition(pod, kind)
    return found is not None and found["status"] == "True"


def _ended(state: JsonObject) -> str:
    """The word for a container that has ended."""
    ended = state["terminated"]
    if ended.get("reason"):
        return str(ended["reason"])
    signal = ended.get("signal")
    return f"Signal:{signal}" if signal else f"ExitCode:{ended['exitCode']}"


def _later(one: str, status: JsonObject) -> str:
    finished = at(status, "lastState", "terminated", "finishedAt") or ""
    return max(one, finished)


def _sidecars(pod: JsonObject) -> set[str]:
    init = at(pod, "spec", "initContainers", default=())
    return {one["name"] for one in init if one.get("restartPolicy") == "Always"}


def _initial(pod: JsonObject, found: _Summary, sidecars: set[str]) -> tuple[int, str]:
    """Walk the init containers; returns restarts of sidecars and the time of the last one."""
    restarts, last = 0, ""
    init = at(pod, "spec", "initContainers", default=())
    for number, one in enumerate(at(pod, "status", "initContainerStatuses", default=())):
        found.restarts += one["restartCount"]
        found.last = _later(found.last, one)
        state = one.get("state") or {}
        if one["name"] in sidecars:
            restarts += one["restartCount"]
            last = _later(last, one)
        if state.get("terminated") and state["terminated"]["exitCode"] == 0:
            continue
        if one["name"] in sidecars and one.get("started"):
            found.ready += bool(one["ready"])
            continue
        waiting = at(state, "waiting", "reason")
        if state.get("terminated"):
            found.reason = "Init:" + _ended(state)
        elif waiting and waiting != "PodInitializing":
            found.reason = "Init:" + waiting
        else:
            found.reason = f"Init:{number}/{len(init)}"
        found.initializing = True
        break
    return restarts, last


def _main(pod: JsonObject, found: _Summary) -> None:
    running = False
    for one in reversed(at(pod, "status", "containerStatuses", default=())):
        found.restarts += one["restartCount"]
        found.last = _later(found.last, one)
        state = one.get("state") or {}
        waiting = at(state, "waiting", "reason")
        if waiting:
            found.reason = waiting
        elif state.get("terminated"):
            found.reason = _ended(state)
        elif one["ready"] and "running" in state:
            running = True
            found.ready += 1
    if found.reason == "Completed" and running:
        found.reason = "Running" if _true(pod, "Ready") else "NotReady"


def summary(pod: JsonObject) -> _Summary:
    """What the row of a pod says."""
    sidecars = _sidecars(pod)
    status = pod.get("status") or {}
    found = _Summary(
        total=len(at(pod, "spec", "containers", default=())) + len(sidecars),
        reason=status.get("reason") or status.get("phase") or "",
    )
    scheduled = _condition(pod, "PodScheduled")
    if scheduled and scheduled.get("reason") == "SchedulingGated":
        found.reason = "SchedulingGated"
    restarts, last = _initial(pod, found, sidecars)
    if not found.initializing or _true(pod, "Initialized"):
        found.restarts, found.last = restarts, last
        _main(pod, found)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            found.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            found.reason = "Terminating"
    return found


def ready(pod: JsonObject, moment: Moment) -> str:
    found = summary(pod)
    return f"{found.ready}/{found.total}"


def status(pod: JsonObject, moment: Moment) -> str:
    return summary(pod).reason


def restarts(pod: JsonObject, moment: Moment) -> str:
    found = summary(pod)
    if found.restarts and found.last:
        return f"{found.restarts} ({moment.since(found.last)} ago)"
    return str(found.restarts)


def address(pod: JsonObject, moment: Moment) -> Any:
    addresses = at(pod, "status", "podIPs", default=())
    return addresses[0]["ip"] if addresses else at(pod, "status", "podIP") or NONE


def node(pod: JsonObject, moment: Moment) -> Any:
    return at(pod, "spec", "nodeName") or NONE


def nominated(pod: JsonObject, moment: Moment) -> Any:
    return at(pod, "status", "nominatedNodeName") or NONE


def gates(pod: JsonObject, moment: Moment) -> str:
    listed = at(pod, "spec", "readinessGates", default=())
    if not listed:
        return NONE
    open_ = sum(_true(pod, gate["conditionType"]) for gate in listed)
    return f"{open_}/{len(listed)}"
