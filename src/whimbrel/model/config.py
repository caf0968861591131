"""What a user has set for Kubernetes: for all contexts, for one context, for one task. Pure data.

The file is read by `whimbrel.model.configreader`. What stands nearest wins: the task's `config`, then
`kubernetes.context_configs.CONTEXT`, then `kubernetes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whimbrel.model.podconfig import layered

DEADLINES = ("probe", "read", "change", "page", "stream_idle", "watch", "connect", "credential")
"""The kinds of calls whose seconds can be set (those of `kubewire.deadlines`; a test compares them)."""
PORT_MODES = ("loadbalancer", "nodeport", "ingress", "podip", "port-forward")
"""How the ports of a task can be made reachable."""
AUTOSCALERS = ("gke", "karpenter", "coreweave", "nebius", "generic")
"""What may add machines to a cluster; which one it is tells how it marks spot machines."""
FOR_EVER = -1.0
"""A `provision_timeout` of this many seconds waits as long as a request may run at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesConfig:
    """How a context is used. None, or an empty mapping, where nothing is said."""

    namespace: str | None = None
    pod_config: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    service_account: str | None = (
        None  # its token is mounted; "" (NO_UPLOAD): none, whatever is said elsewhere
    )
    provision_timeout: float | None = None  # seconds until every node has a machine
    autoscaler: str | None = None  # one of AUTOSCALERS
    queue: str | None = None  # Kueue's local queue
    ports: str | None = None  # one of PORT_MODES
    deadlines: Mapping[str, float] = field(default_factory=dict)  # kind of call -> seconds

    def over(self, base: KubernetesConfig) -> KubernetesConfig:
        """This laid over `base`."""

        def nearest(name: str) -> Any:
            own = getattr(self, name)
            return getattr(base, name) if own is None else own

        return KubernetesConfig(
            namespace=nearest("namespace"),
            pod_config=layered(base.pod_config, self.pod_config),
            labels={**base.labels, **self.labels},
            annotations={**base.annotations, **self.annotations},
            service_account=nearest("service_account"),
            provision_timeout=nearest("provision_timeout"),
            autoscaler=nearest("autoscaler"),
            queue=nearest("queue"),
            ports=nearest("ports"),
            deadlines={**base.deadlines, **self.deadlines},
        )

    def to_wire(self) -> dict[str, Any]:
        """As it stands in a file."""
        metadata = {"labels": dict(self.labels), "annotations": dict(self.annotations)}
        wire = {
            "namespace": self.namespace,
            "pod_config": dict(self.pod_config),
            "custom_metadata": {key: value for key, value in metadata.items() if value},
            "remote_identity": "NO_UPLOAD" if self.service_account == "" else self.service_account,
            "provision_timeout": self.provision_timeout,
            "autoscaler": self.autoscaler,
            "kueue": {"local_queue_name": self.queue} if self.queue else {},
            "ports": self.ports,
            "deadlines": dict(self.deadlines),
        }
        return {key: value for key, value in wire.items() if value not in (None, {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One configuration file; without a file, the defaults of the house."""

    source: str = ""  # the file, for messages
    allowed_contexts: tuple[str, ...] | None = None  # None: the current one
    all_contexts: bool = False
    every: KubernetesConfig = field(default_factory=KubernetesConfig)
    contexts: Mapping[str, KubernetesConfig] = field(default_factory=dict)

    def of(self, context: str) -> KubernetesConfig:
        """What is set for one context."""
        own = self.contexts.get(context)
        return own.over(self.every) if own is not None else self.every

    def allows(self, context: str) -> bool:
        """Whether this context may be named."""
        return self.all_contexts or self.allowed_contexts is None or context in self.allowed_contexts

    def to_wire(self) -> dict[str, Any]:
        """As it stands in a file, for a request that outlives the file."""
        kubernetes = self.every.to_wire()
        if self.all_contexts:
            kubernetes["allowed_contexts"] = "all"
        elif self.allowed_contexts is not None:
            kubernetes["allowed_contexts"] = list(self.allowed_contexts)
        if self.contexts:
            kubernetes["context_configs"] = {name: one.to_wire() for name, one in self.contexts.items()}
        return {"kubernetes": kubernetes} if kubernetes else {}
