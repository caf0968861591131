"""What is known about the containers of a pod: the data that decisions and status are made from. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kubesim.kubelet.containerfiles import Exit

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of a container; the first has the number 0, as `restartCount` counts."""

    number: int
    container_id: str = ""
    started_at: float | None = None  # None: it has not been started yet
    exit: Exit | None = None
    backoff: float = 0.0  # seconds that were waited for before it

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.started_at is not None and self.exit is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What probes and the postStart hook say about a container that runs; without any it is well."""

    started: bool = True
    ready: bool = True
    failed: str = ""  # the kind of the probe that gives it up: startup or liveness
    hook: str = ""  # its postStart hook: running, failed, or nothing to tell


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """A container's attempts as far as they matter, and what keeps it from starting."""

    current: Attempt | None = None
    previous: Attempt | None = None
    problem: tuple[str, str] | None = None  # reason and message of a start that could not be made
    health: Health = field(default_factory=Health)

    @property
    def is_up(self) -> bool:
        """Whether it runs, its postStart hook is done, and its startup probe has succeeded."""
        running = self.current is not None and self.current.running
        return running and self.health.started and not self.health.hook

    def with_problem(self, reason: str, message: str) -> ContainerView:
        """The same container, and why it cannot start."""
        return replace(self, problem=(reason, message))


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A pod as the API server has it, and its containers as they are here."""

    pod: JsonObject
    containers: Mapping[str, ContainerView] = field(default_factory=dict)
    pod_ip: str = ""
    prepared: bool = False  # whether its volumes are there

    def container(self, name: str) -> ContainerView:
        """What is known of a container; of an unknown one, nothing."""
        return self.containers.get(name, ContainerView())

    @property
    def spec(self) -> JsonObject:
        """The pod's spec."""
        return self.pod.get("spec") or {}

    @property
    def metadata(self) -> JsonObject:
        """The pod's metadata."""
        return self.pod.get("metadata") or {}

    @property
    def restart_policy(self) -> str:
        """Always, OnFailure or Never."""
        return str(self.spec.get("restartPolicy") or "Always")

    @property
    def init_containers(self) -> Sequence[JsonObject]:
        """The init containers in their order, sidecars among them."""
        return self.spec.get("initContainers") or ()

    @property
    def main_containers(self) -> Sequence[JsonObject]:
        """The pod's containers."""
        return self.spec.get("containers") or ()

    @property
    def ephemeral_containers(self) -> Sequence[JsonObject]:
        """The containers that were added for debugging: started once, and no part of the pod's own fate."""
        return self.spec.get("ephemeralContainers") or ()

    @property
    def has_begun(self) -> bool:
        """Whether one of the pod's own containers was ever started: the init containers are behind it then."""
        return any(self.container(one["name"]).current is not None for one in self.main_containers)

    @property
    def running(self) -> list[str]:
        """The names of the containers that run."""
        return [name for name, view in self.containers.items() if view.current and view.current.running]


def every_container(pod: Mapping[str, Any]) -> list[JsonObject]:
    """All containers of a pod's spec: init containers, its own, and those for debugging."""
    spec = pod.get("spec") or {}
    return [
        one
        for kind in ("initContainers", "containers", "ephemeralContainers")
        for one in spec.get(kind) or ()
    ]


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Whether an init container is one that goes on running beside the pod's containers."""
    return container.get("restartPolicy") == "Always"
