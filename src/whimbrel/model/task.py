"""Task and Resources: what a user asks for, checked and complete, as plain frozen data.

Reading YAML into these, with positions in the errors, is `whimbrel.model.yamltask`; this module only holds the
result and its form on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
    setup: str | None = None
    run: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """The task as JSON, for the API server; secrets are included, because the job needs them."""
        res = self.resources
        return {
            "name": self.name,
            "workdir": self.workdir,
            "num_nodes": self.num_nodes,
            "resources": {
                "cpus": str(res.cpus) if res.cpus else None,
                "memory": str(res.memory) if res.memory else None,
                "accelerators": str(res.accelerators) if res.accelerators else None,
                "infra": res.infra,
            },
            "envs": dict(self.envs),
            "secrets": dict(self.secrets),
            "file_mounts": dict(self.file_mounts),
            "setup": self.setup,
            "run": self.run,
        }
