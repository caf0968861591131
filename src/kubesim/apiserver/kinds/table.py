"""Which kind has which strategy: the one list of them."""

from __future__ import annotations

from kubesim.apiserver.kinds.base import Strategy
from kubesim.apiserver.kinds.core import (
    ConfigMapStrategy,
    EventStrategy,
    LeaseStrategy,
    NamespaceStrategy,
    NodeStrategy,
    SecretStrategy,
    ServiceAccountStrategy,
)
from kubesim.apiserver.kinds.pod import PodStrategy
from kubesim.apiserver.kinds.service import ServiceStrategy

STRATEGIES: dict[tuple[str, str], Strategy] = {
    ("", "ConfigMap"): ConfigMapStrategy(),
    ("", "Event"): EventStrategy(),
    ("", "Namespace"): NamespaceStrategy(),
    ("", "Node"): NodeStrategy(),
    ("", "Pod"): PodStrategy(),
    ("", "Secret"): SecretStrategy(),
    ("", "Service"): ServiceStrategy(),
    ("", "ServiceAccount"): ServiceAccountStrategy(),
    ("coordination.k8s.io", "Lease"): LeaseStrategy(),
    ("events.k8s.io", "Event"): EventStrategy(),
}
