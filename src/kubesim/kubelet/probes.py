"""What probes say about a container: reading them from the pod, and counting their results. Pure.

A probe's result counts only once its threshold is reached; until then the container is what it was before: not started
while it has a startup probe, alive, and not ready while it has a readiness probe. Who performs them, and when, is in
`probing.py`; what follows from their verdicts is decided in `reconcile.py` and told by `status.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kubesim.kubelet.containers import JsonObject

STARTUP = "startup"
LIVENESS = "liveness"
READINESS = "readiness"


class Outcome(Enum):
    """How one probe went. A warning counts as success; what is unknown counts for nothing."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Result:
    """One probe's outcome, and what it said."""

    outcome: Outcome
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe of a container, with Kubernetes' defaults."""

    kind: str
    handler: JsonObject
    initial_delay: float = 0.0
    period: float = 10.0
    timeout: float = 1.0
    successes: int = 1
    failures: int = 3
    grace: float | None = None
    """What the container gets instead of the pod's termination grace period when this probe has failed."""


def read(container: JsonObject, kind: str) -> Probe | None:
    """A container's probe of this kind, None when it has none."""
    found = container.get(f"{kind}Probe")
    if not found:
        return None
    grace = found.get("terminationGracePeriodSeconds")
    return Probe(
        kind=kind,
        handler=found,
        initial_delay=float(found.get("initialDelaySeconds") or 0),
        period=float(found.get("periodSeconds") or 10),
        timeout=float(found.get("timeoutSeconds") or 1),
        successes=int(found.get("successThreshold") or 1),
        failures=int(found.get("failureThreshold") or 3),
        grace=None if grace is None else float(grace),
    )


class Tally:
    """Counts results of one kind in a row, until they are enough."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._last: bool | None = None
        self._run = 0

    def take(self, outcome: Outcome) -> bool | None:
        """The verdict that the probe stands by after this result; None: what held before goes on."""
        if outcome is Outcome.UNKNOWN:
            return None
        good = outcome is not Outcome.FAILURE
        self._run = self._run + 1 if good == self._last else 1
        self._last = good
        return good if self._run >= (self._probe.successes if good else self._probe.failures) else None


def complaint(kind: str, result: Result) -> tuple[str, str] | None:
    """Reason and message of the event about a result, None when there is nothing to complain about."""
    title = kind.capitalize()
    match result.outcome:
        case Outcome.SUCCESS:
            return None
        case Outcome.WARNING:
            return "ProbeWarning", f"{title} probe warning: {result.output}"
        case Outcome.FAILURE:
            return "Unhealthy", f"{title} probe failed: {result.output}"
        case Outcome.UNKNOWN:
            return "Unhealthy", f"{title} probe errored and resulted in unknown state: {result.output}"


def failed_grace(container: JsonObject, kind: str, otherwise: float) -> float:
    """Seconds that a container gets whose probe of this kind has failed."""
    probe = read(container, kind)
    return probe.grace if probe is not None and probe.grace is not None else otherwise
