"""What must happen next to one pod: a pure function of what the API server wants and what is here.

It decides which containers to start, and when; when to stop all; and when the pod can be let go of. It performs
nothing, reads no clock, and is called again whenever something has changed or `wake_at` has come.

The order is Kubernetes': init containers one after the other, each to its success; sidecars (init containers that
restart always) in that order too, each until it is up; then all containers side by side, but none before the postStart
hook of the one before it is done. At the end sidecars go last, in reverse order. What ends is restarted by the restart
policy, the first time at once, then after 10 s, 20 s, ... up to five minutes; ten good minutes forgive all. A container
that its probes or its hook have given up is ended first. Ephemeral containers are started once, at any time, and ended
with the pod.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from kubesim.kubelet.containers import Attempt, ContainerView, JsonObject, PodView, is_sidecar
from kubesim.kubelet.probes import failed_grace

FIRST_BACKOFF = 10.0
LONGEST_BACKOFF = 300.0
FORGIVEN_AFTER = 600.0
DEFAULT_GRACE = 30.0
TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start this attempt of a container."""

    container: str
    number: int
    backoff: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """End one container of a pod that goes on."""

    container: str
    grace: float
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now."""

    start: tuple[Start, ...] = ()
    stop: tuple[str, ...] = ()
    held: tuple[str, ...] = ()  # those of `stop` that get TERM only after the others have ended
    grace: float = 0.0
    kill: tuple[Kill, ...] = ()
    let_go: bool = False  # all has ended and deletion was asked for: the object and the folder may go
    wake_at: float | None = None
    backing_off: tuple[tuple[str, float], ...] = ()  # container and seconds, for its status
    failure: tuple[str, str] | None = None  # the pod as a whole has failed: reason and message


def decide(view: PodView, now: float) -> Decision:
    """The next actions for a pod."""
    deleting = "deletionTimestamp" in view.metadata
    failure = overdue(view, now)
    if deleting or failure or has_ended(view):
        grace = deletion_grace(view.pod) if deleting else DEFAULT_GRACE
        if not deleting:
            grace = own_grace(view)
        running = tuple(view.running)
        return Decision(
            stop=running, held=_held(view), grace=grace, let_go=deleting and not running, failure=failure
        )
    plan = _Plan(now)
    _run_ephemeral_containers(view, plan)
    if _run_init_containers(view, plan):
        for container in view.main_containers:
            state = view.container(container["name"])
            if plan.keep(container, state, view.restart_policy) and _has_post_start(container):
                break  # the next one waits for its hook
            if state.health.hook == "running":
                break
    wake_at = min((at for at in (plan.wake_at, deadline(view)) if at is not None), default=None)
    return Decision(
        start=tuple(plan.starts),
        kill=tuple(_kills(view)),
        wake_at=wake_at,
        backing_off=tuple(plan.backing_off),
    )


def has_ended(view: PodView) -> bool:
    """Whether the pod will never run a container again, but for sidecars that are to be ended."""
    if (view.pod.get("status") or {}).get("phase") in TERMINAL:
        return True
    if view.restart_policy == "Always":
        return False
    for container in view.init_containers:
        current = view.container(container["name"]).current
        if not is_sidecar(container) and _failed_for_good(current, view.restart_policy):
            return True
    mains = [view.container(container["name"]).current for container in view.main_containers]
    return bool(mains) and all(_is_done(current, view.restart_policy) for current in mains)


def init_done(view: PodView) -> bool:
    """Whether every init container has succeeded and every sidecar is up, or once was: then the containers began."""
    return view.has_begun or all(_is_past(container, view) for container in view.init_containers)


def own_grace(view: PodView) -> float:
    """Seconds that the pod's spec leaves to containers that are ended."""
    grace = view.spec.get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE if grace is None else float(grace)


def deletion_grace(pod: JsonObject) -> float:
    """Seconds that a deletion leaves to the containers."""
    metadata = pod.get("metadata") or {}
    grace = metadata.get("deletionGracePeriodSeconds")
    if grace is None:
        grace = (pod.get("spec") or {}).get("terminationGracePeriodSeconds", DEFAULT_GRACE)
    return float(grace)


def deadline(view: PodView) -> float | None:
    """When the pod's activeDeadlineSeconds are over (UNIX seconds)."""
    seconds = view.spec.get("activeDeadlineSeconds")
    started = (view.pod.get("status") or {}).get("startTime")
    if seconds is None or not started:
        return None
    return datetime.fromisoformat(started.replace("Z", "+00:00")).timestamp() + float(seconds)


def overdue(view: PodView, now: float) -> tuple[str, str] | None:
    """The failure of a pod that has lived longer than it may, or that has failed in this way before."""
    status = view.pod.get("status") or {}
    if status.get("phase") == "Failed" and status.get("reason") == "DeadlineExceeded":
        return status["reason"], status.get("message", "")
    at = deadline(view)
    if at is None or now < at or status.get("phase") in TERMINAL:
        return None
    return "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"


def next_backoff(ended: Attempt) -> float:
    """Seconds between the end of this attempt and the next one."""
    assert ended.exit is not None
    if ended.number == 0:
        return 0.0
    if ended.exit.finished_at - ended.exit.started_at >= FORGIVEN_AFTER:
        return 0.0
    return min(max(ended.backoff * 2, FIRST_BACKOFF), LONGEST_BACKOFF)


def restarts(policy: str, exit_code: int) -> bool:
    """Whether a container that ended so is started again."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


class _Plan:
    """Collects what is to be done."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.starts: list[Start] = []
        self.backing_off: list[tuple[str, float]] = []
        self.wake_at: float | None = None

    def keep(self, container: JsonObject, view: ContainerView, policy: str) -> bool:
        """Have the container run, as far as its policy wants it; whether it is started now."""
        before = len(self.starts)
        name, current = container["name"], view.current
        if current is None:
            self.starts.append(Start(container=name, number=0, backoff=0.0))
        elif current.started_at is None and current.exit is None:  # its start was begun and not completed
            self.starts.append(Start(container=name, number=current.number, backoff=current.backoff))
        elif current.exit is not None and restarts(policy, current.exit.exit_code):
            self._restart(name, current, current.exit.finished_at)
        return len(self.starts) > before

    def _restart(self, name: str, ended: Attempt, finished_at: float) -> None:
        backoff = next_backoff(ended)
        at = finished_at + backoff
        if at <= self.now:
            self.starts.append(Start(container=name, number=ended.number + 1, backoff=backoff))
            return
        self.backing_off.append((name, backoff))
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)


def _run_ephemeral_containers(view: PodView, plan: _Plan) -> None:
    for container in view.ephemeral_containers:
        plan.keep(container, view.container(container["name"]), "Never")


def _run_init_containers(view: PodView, plan: _Plan) -> bool:
    """Plan the init containers; whether the pod's containers may run."""
    init_policy = "Never" if view.restart_policy == "Never" else "OnFailure"
    containers = view.init_containers
    for position, container in enumerate(containers):
        state = view.container(container["name"])
        if is_sidecar(container):
            plan.keep(container, state, "Always")
            later = containers[position + 1 :]
            was_up = view.has_begun or any(view.container(one["name"]).current is not None for one in later)
            if not was_up and not state.is_up:
                return False
        elif not _is_past(container, view) and not view.has_begun:
            plan.keep(container, state, init_policy)
            return False
    return True


def _is_past(container: JsonObject, view: PodView) -> bool:
    """Whether the pod may go on to what follows an init container."""
    state = view.container(container["name"])
    if is_sidecar(container):
        return state.is_up
    return state.current is not None and state.current.exit is not None and state.current.exit.exit_code == 0


def _has_post_start(container: JsonObject) -> bool:
    return bool((container.get("lifecycle") or {}).get("postStart"))


def _held(view: PodView) -> tuple[str, ...]:
    """The running sidecars whose turn to end has not come: it comes when nothing that was started later runs."""
    running = set(view.running)
    if any(container["name"] in running for container in view.main_containers):
        last = None
    else:
        last = next((one["name"] for one in reversed(view.init_containers) if one["name"] in running), None)
    return tuple(
        one["name"]
        for one in view.init_containers
        if is_sidecar(one) and one["name"] in running and one["name"] != last
    )


def _kills(view: PodView) -> Iterator[Kill]:
    """The running containers that their probes or their postStart hook have given up."""
    for container in [*view.init_containers, *view.main_containers]:
        name = container["name"]
        state = view.container(name)
        if state.current is None or not state.current.running:
            continue
        if state.health.hook == "failed":
            yield Kill(container=name, grace=own_grace(view), message="FailedPostStartHook")
        elif state.health.failed:
            kind = state.health.failed
            again = is_sidecar(container) or view.restart_policy != "Never"
            ending = ", will be restarted" if again else ""
            yield Kill(
                container=name,
                grace=failed_grace(container, kind, own_grace(view)),
                message=f"Container {name} failed {kind} probe{ending}",
            )


def _is_done(current: Attempt | None, policy: str) -> bool:
    return current is not None and current.exit is not None and not restarts(policy, current.exit.exit_code)


def _failed_for_good(current: Attempt | None, policy: str) -> bool:
    return (
        policy == "Never" and current is not None and current.exit is not None and current.exit.exit_code != 0
    )
