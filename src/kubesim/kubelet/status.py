"""The status that a pod reports, from what is known about its containers. Pure; wording and order as the real kubelet.

Times of conditions are kept where nothing has changed, so that the same state gives the same status and nothing has to
be written. Conditions of others (PodScheduled, readiness gates) are carried over untouched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from kubesim.kubelet.containerfiles import Exit
from kubesim.kubelet.containers import Attempt, ContainerView, JsonObject, PodView, is_sidecar
from kubesim.kubelet.reconcile import Decision, init_done, restarts

OURS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")


def rfc3339(at: float) -> str:
    """A moment as Kubernetes writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_status(view: PodView, decision: Decision, *, host_ip: str, now: float) -> JsonObject:
    """The complete status to report."""
    old = view.pod.get("status") or {}
    phase = _phase(view, decision)
    status: JsonObject = {
        "phase": phase,
        "startTime": old.get("startTime") or rfc3339(now),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "containerStatuses": sorted(
            (_container(view, one, decision) for one in view.main_containers),
            key=lambda one: str(one["name"]),
        ),
    }
    if view.pod_ip:
        status |= {"podIP": view.pod_ip, "podIPs": [{"ip": view.pod_ip}]}
    if view.init_containers:
        status["initContainerStatuses"] = [_container(view, one, decision) for one in view.init_containers]
    if view.ephemeral_containers:
        status["ephemeralContainerStatuses"] = [_ephemeral(view, one) for one in view.ephemeral_containers]
    if decision.failure is not None:
        status["reason"], status["message"] = decision.failure
    generation = view.metadata.get("generation")
    if generation is not None:
        status["observedGeneration"] = generation
    status["conditions"] = _conditions(view, status, now)
    return status


def _phase(view: PodView, decision: Decision) -> str:
    old = (view.pod.get("status") or {}).get("phase")
    if old in ("Succeeded", "Failed"):
        return str(old)
    if decision.failure is not None:
        return "Failed" if not view.running else str(old or "Pending")
    deleting = "deletionTimestamp" in view.metadata
    for container in view.init_containers:
        current = view.container(container["name"]).current
        final = view.restart_policy == "Never" or (deleting and not view.running)
        failed = current is not None and current.exit is not None and current.exit.exit_code != 0
        if failed and final and not is_sidecar(container):
            return "Failed"
    if not init_done(view):
        return "Failed" if deleting and not view.running and view.containers else "Pending"
    return _phase_of_mains(view, deleting)


def _phase_of_mains(view: PodView, deleting: bool) -> str:
    currents = [view.container(container["name"]).current for container in view.main_containers]
    if any(current is None or (current.started_at is None and current.exit is None) for current in currents):
        return "Pending"
    if any(_is_in_first_hook(view.container(one["name"])) for one in view.main_containers):
        return "Pending"
    if any(current.running for current in currents if current is not None):
        return "Running"
    codes = [
        current.exit.exit_code for current in currents if current is not None and current.exit is not None
    ]
    if not deleting and any(restarts(view.restart_policy, code) for code in codes):
        return "Running"
    if view.running:  # sidecars, or containers for debugging
        return "Running"
    return "Failed" if any(codes) else "Succeeded"


def _is_in_first_hook(known: ContainerView) -> bool:
    """Whether the container has been started for the first time and its postStart hook has not come back."""
    current = known.current
    first = current is not None and current.running and current.number == 0
    return first and known.health.hook == "running"


def _container(view: PodView, container: JsonObject, decision: Decision) -> JsonObject:
    name = container["name"]
    known = view.container(name)
    current, last = known.current, known.previous
    waiting = _waiting(view, container, known, decision)
    if waiting is not None and current is not None and current.exit is not None:
        last = current
    state = {"waiting": waiting} if waiting is not None else _state(current)
    running = "running" in state
    started = running and known.health.started
    done_init = container in view.init_containers and current is not None and _succeeded(current)
    return {
        "name": name,
        "image": container.get("image") or "",
        "imageID": "",
        "containerID": current.container_id if current is not None else "",
        "restartCount": current.number if current is not None else 0,
        "ready": (started and known.health.ready) or done_init,
        "started": started,
        "state": state,
        "lastState": _state(last) if last is not None and last.exit is not None else {},
    }


def _ephemeral(view: PodView, container: JsonObject) -> JsonObject:
    """A container for debugging is never ready, and nobody asks whether it has started."""
    known = view.container(container["name"])
    current = known.current
    begun = current is not None and (current.running or current.exit is not None)
    reason, message = known.problem or ("ContainerCreating", "")
    waiting = {"reason": reason, "message": message} if message else {"reason": reason}
    return {
        "name": container["name"],
        "image": container.get("image") or "",
        "imageID": "",
        "containerID": current.container_id if current is not None else "",
        "restartCount": 0,
        "ready": False,
        "state": _state(current) if begun else {"waiting": waiting},
        "lastState": {},
    }


def _waiting(
    view: PodView, container: JsonObject, known: ContainerView, decision: Decision
) -> JsonObject | None:
    """Why a container waits, None when it runs or has ended."""
    name, current = container["name"], known.current
    for waits, seconds in decision.backing_off:
        if waits == name:
            pod = f"{view.metadata.get('name')}_{view.metadata.get('namespace')}({view.metadata.get('uid')})"
            message = f"back-off {_duration(seconds)} restarting failed container={name} pod={pod}"
            return {"reason": "CrashLoopBackOff", "message": message}
    in_hook = current is not None and current.running and known.health.hook == "running"
    if current is not None and (current.running or current.exit is not None) and not in_hook:
        return None
    if known.problem is not None:
        reason, message = known.problem
        return {"reason": reason, "message": message} if message else {"reason": reason}
    if view.init_containers and container not in view.init_containers and not init_done(view):
        return {"reason": "PodInitializing"}
    if view.init_containers and container in view.init_containers and view.prepared:
        return {"reason": "PodInitializing"}
    return {"reason": "ContainerCreating"}


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _state(attempt: Attempt | None) -> JsonObject:
    if attempt is None:
        return {"waiting": {"reason": "ContainerCreating"}}
    if attempt.exit is None:
        return {"running": {"startedAt": rfc3339(attempt.started_at or 0)}}
    return {"terminated": _terminated(attempt.exit, attempt.container_id)}


def _terminated(end: Exit, container_id: str) -> JsonObject:
    state: JsonObject = {
        "exitCode": end.exit_code,
        "reason": end.reason or ("Completed" if end.exit_code == 0 else "Error"),
        "startedAt": rfc3339(end.started_at),
        "finishedAt": rfc3339(end.finished_at),
        "containerID": container_id,
    }
    if end.message:
        state["message"] = end.message
    return state


def _succeeded(attempt: Attempt) -> bool:
    return attempt.exit is not None and attempt.exit.exit_code == 0


def _conditions(view: PodView, status: JsonObject, now: float) -> list[JsonObject]:
    old = {one["type"]: one for one in (view.pod.get("status") or {}).get("conditions") or ()}
    phase = status["phase"]
    everyone = [*status.get("initContainerStatuses", ()), *status["containerStatuses"]]
    sandbox = bool(view.pod_ip) and phase not in ("Succeeded", "Failed")
    sidecars = {one["name"] for one in view.init_containers if is_sidecar(one)}
    lasting = [one for one in everyone if one["name"] in sidecars] + status["containerStatuses"]
    unready = [one["name"] for one in lasting if not one["ready"]]
    fresh: dict[str, tuple[bool, str, str]] = {
        "PodReadyToStartContainers": (sandbox, "", ""),
        "Initialized": _initialized(view, phase, everyone),
        "Ready": _ready_with_gates(view, _ready(phase, unready), old),
        "ContainersReady": _ready(phase, unready),
    }
    conditions = [
        _condition(old.get(kind), kind, *value, now, status.get("observedGeneration"))
        for kind, value in fresh.items()
    ]
    return conditions + [one for kind, one in old.items() if kind not in OURS]


def _initialized(view: PodView, phase: str, statuses: Sequence[JsonObject]) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if init_done(view):
        return True, "", ""
    names = {one["name"] for one in view.init_containers}
    sidecars = {one["name"] for one in view.init_containers if is_sidecar(one)}
    missing = [
        one["name"]
        for one in statuses
        if one["name"] in names and not one["started" if one["name"] in sidecars else "ready"]
    ]
    return False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(missing)}]"


def _ready(phase: str, unready: list[str]) -> tuple[bool, str, str]:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    return True, "", ""


def _ready_with_gates(
    view: PodView, ready: tuple[bool, str, str], conditions: Mapping[str, JsonObject]
) -> tuple[bool, str, str]:
    """The pod is ready when its containers are and everyone else who was given a say has said so."""
    if not ready[0]:
        return ready
    missing = []
    for gate in view.spec.get("readinessGates") or ():
        kind = gate["conditionType"]
        if kind not in conditions:
            missing.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif conditions[kind].get("status") != "True":
            state = conditions[kind].get("status")
            missing.append(f'the status of pod readiness gate "{kind}" is not "True", but {state}')
    return (False, "ReadinessGatesNotReady", ", ".join(missing)) if missing else ready


def _condition(
    old: JsonObject | None,
    kind: str,
    value: bool,
    reason: str,
    message: str,
    now: float,
    generation: int | None,
) -> JsonObject:
    state = "True" if value else "False"
    same = old is not None and old.get("status") == state
    condition: JsonObject = {
        "type": kind,
        "status": state,
        "lastProbeTime": None,
        "lastTransitionTime": old["lastTransitionTime"] if same and old is not None else rfc3339(now),
    }
    if generation is not None:
        condition["observedGeneration"] = generation
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition
