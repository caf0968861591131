"""Task and Resources: what a user asks for, checked and complete, as plain frozen data.

Reading YAML into these, with positions in the errors, is `whimbrel.model.yamltask`; this module only holds the
result and its form on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whimbrel.model.config import KubernetesConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number of CPUs, or of GB of memory: exactly that many, or at least (`4+`)."""

    value: float
    at_least: bool = False

    def __str__(self) -> str:
        number = int(self.value) if self.value == int(self.value) else self.value
        return f"{number}{'+' if self.at_least else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerators:
    """`H100:8`: a kind of accelerator and how many of it each node needs."""

    name: str
    count: float = 1

    def __str__(self) -> str:
        return f"{self.name}:{self.count:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What each node of a task needs, and where; None where the task leaves it open."""

    cpus: Amount | None = None
    memory: Amount | None = None  # GB (10^9 bytes are not meant: GiB, as Kubernetes' Gi)
    accelerators: Accelerators | None = None
    infra: str | None = None  # `k8s`, `k8s/CONTEXT`, `local`
    image: str | None = None  # of the container; any that has a POSIX shell
    ports: tuple[int, ...] = ()  # of the first node
    labels: Mapping[str, str] = field(default_factory=dict)
    use_spot: bool | None = None
    disk_gib: float | None = None  # of the node's own disk; None: as the machine gives it
    priority_class: str | None = None  # of Kubernetes

    def to_wire(self) -> dict[str, Any]:
        """As it stands in a task."""
        return {
            "cpus": str(self.cpus) if self.cpus else None,
            "memory": str(self.memory) if self.memory else None,
            "accelerators": str(self.accelerators) if self.accelerators else None,
            "infra": self.infra,
            "image_id": f"docker:{self.image}" if self.image else None,
            "ports": list(self.ports) or None,
            "labels": dict(self.labels) or None,
            "use_spot": self.use_spot,
            "disk_size": self.disk_gib,
            "priority_class": self.priority_class,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """A volume at a path of every node: one that was applied before, by name, or a new one for each node."""

    name: str | None = None
    sub_path: str | None = None  # of that volume
    size_gib: float | None = None  # of one that lives as long as its node
    storage_class: str | None = None
    access_mode: str | None = None

    def to_wire(self) -> dict[str, Any] | str | None:
        """As it stands in a task."""
        if self.name is not None:
            return {"name": self.name, "sub_path": self.sub_path} if self.sub_path else self.name
        config = {"storage_class_name": self.storage_class, "access_mode": self.access_mode}
        return {"size": f"{self.size_gib:g}Gi", "config": config}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task: what to install, what to run, on how many nodes of which kind, with which files."""

    name: str | None = None
    workdir: str | None = None  # absolute path on the client
    num_nodes: int = 1
    resources: Resources = field(default_factory=Resources)
    envs: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)  # values: never log, never show
    file_mounts: Mapping[str, str] = field(default_factory=dict)  # path on the node -> absolute client path
    volumes: Mapping[str, VolumeMount] = field(default_factory=dict)  # path on the node -> what is there
    config: KubernetesConfig = field(default_factory=KubernetesConfig)
    setup: str | None = None
    run: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """The task as JSON, for the API server; secrets are included, because the job needs them."""
        config = self.config.to_wire()
        return {
            "name": self.name,
            "workdir": self.workdir,
            "num_nodes": self.num_nodes,
            "resources": self.resources.to_wire(),
            "envs": dict(self.envs),
            "secrets": dict(self.secrets),
            "file_mounts": dict(self.file_mounts),
            "volumes": {path: mount.to_wire() for path, mount in self.volumes.items()},
            "config": {"kubernetes": config} if config else None,
            "setup": self.setup,
            "run": self.run,
        }
