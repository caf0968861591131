"""What can be set for a Kubernetes context; plain data with the defaults of the house."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kubewire.deadlines import Deadlines
from whimbrel.infra.guard import GuardSettings

LOCAL_CONTEXT = "kubesim-local"
"""The context of the embedded Kubernetes."""
LOCAL_CPUS = 0.1
"""So that several ranks fit on a small machine."""
USUAL_CPUS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """How one context is used."""

    command: Sequence[str]  # what a node's pod runs: the node runtime's
    namespace: str | None = None  # None: the context's
    image: str = "python:3.12-slim"
    grace: int = 5  # seconds that a node gets to end
    deadlines: Deadlines = field(default_factory=Deadlines)
    guard: GuardSettings = field(default_factory=GuardSettings)


def default_cpus(context: str) -> float:
    """CPUs of a node when the task does not say."""
    return LOCAL_CPUS if context == LOCAL_CONTEXT else USUAL_CPUS
