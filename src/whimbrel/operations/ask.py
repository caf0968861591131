"""What a launch or an exec was asked to do, as its request holds it. Values of secrets are in the vault, not
here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from whimbrel.model.config import Config
from whimbrel.model.configreader import config_from_wire
from whimbrel.model.task import Task
from whimbrel.model.yamltask import from_wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The body of a launch or an exec."""

    cluster: str
    task: Task  # without the values of its secrets
    kubeconfig: tuple[str, ...]
    infra: str | None = None
    workdir: str | None = None  # digest of its manifest
    mounts: Mapping[str, str] = field(default_factory=dict)  # path on the node -> digest of its manifest
    down: bool = False
    secret_names: tuple[str, ...] = ()
    config: Config = field(default_factory=Config)  # as the client's file said when it asked

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Ask:
        """What `to_body` wrote."""
        return cls(
            cluster=body["cluster"],
            task=from_wire(body["task"]),
            kubeconfig=tuple(body["kubeconfig"]),
            infra=body["infra"],
            workdir=body["workdir"],
            mounts=dict(body["mounts"]),
            down=body["down"],
            secret_names=tuple(body["secret_names"]),
            config=replace(
                config_from_wire(body.get("config") or {}), source=str(body.get("config_source") or "")
            ),
        )

    def to_body(self) -> dict[str, Any]:
        """The request's body."""
        return {
            "cluster": self.cluster,
            "task": self.task_wire(),
            "kubeconfig": list(self.kubeconfig),
            "infra": self.infra,
            "workdir": self.workdir,
            "mounts": dict(self.mounts),
            "down": self.down,
            "secret_names": list(self.secret_names),
            "config": self.config.to_wire(),
            "config_source": self.config.source,
        }

    def task_wire(self) -> dict[str, Any]:
        """The task without its secrets."""
        return replace(self.task, secrets={}).to_wire()

    def sent(self) -> dict[str, Any]:
        """What came with the task, as a cluster remembers it."""
        return {
            "workdir": self.workdir,
            "mounts": dict(self.mounts),
            "secret_names": list(self.secret_names),
            "down": self.down,
        }

    @property
    def wanted(self) -> str | None:
        """Where it shall run: what was chosen from the plan, else what the task says."""
        return self.infra or self.task.resources.infra

    @property
    def may_go_elsewhere(self) -> bool:
        """Whether the task leaves the place open, so that another one may be taken when the chosen one fails."""
        return self.task.resources.infra in (None, "k8s", "kubernetes")
