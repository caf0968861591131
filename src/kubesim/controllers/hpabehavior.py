"""How fast a recommendation may be followed: stabilization windows, policies, minimum and maximum. Pure but for memory.

Without a `behavior` the real autoscaler's constants hold: down only to the highest recommendation of five minutes, up
to twice the size or four pods at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil

from kubesim.controllers.hpamath import Tolerance
from kubesim.schema.quantity import NANO, parse
from kubewire.informer import Object

_DOWN_WINDOW = 300.0
_LONGEST = 3600.0
_UP_POLICIES = (
    {"type": "Pods", "value": 4, "periodSeconds": 15},
    {"type": "Percent", "value": 100, "periodSeconds": 15},
)
_DOWN_POLICIES = ({"type": "Percent", "value": 100, "periodSeconds": 15},)
_TOO_FAST = "the desired replica count is {}creasing faster than the maximum scale rate"
_TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
_TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
_READY = ("ReadyForNewScale", "recommended size matches current size")
_HELD_DOWN = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)
_HELD_UP = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)

Reason = tuple[str, str]


@dataclass(slots=True)
class Past:
    """What one autoscaler recommended and did, with the times in seconds of one clock."""

    recommended: list[tuple[float, int]] = field(default_factory=list)
    changed: list[tuple[float, int]] = field(default_factory=list)

    def forget_old(self, now: float) -> None:
        """Nothing older than the longest window matters."""
        self.recommended = [one for one in self.recommended if now - one[0] <= _LONGEST]
        self.changed = [one for one in self.changed if now - one[0] <= _LONGEST]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The replicas that may be set now, and what held them back."""

    replicas: int
    able: Reason
    limited: bool
    limit: Reason


def tolerance_of(hpa: Object) -> Tolerance:
    """The tolerances of a behavior."""
    behavior = hpa["spec"].get("behavior") or {}

    def one(way: str) -> float:
        given = (behavior.get(way) or {}).get("tolerance")
        return 0.1 if given is None else parse(str(given)).nanos / NANO

    return Tolerance(up=one("scaleUp"), down=one("scaleDown"))


def allowed(hpa: Object, current: int, wanted: int, past: Past, now: float) -> Allowed:
    """What of a wish may come true now. Remembers the wish."""
    past.forget_old(now)
    spec = hpa["spec"]
    least, most = int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])
    behavior = spec.get("behavior")
    if behavior is None:
        steady, able = _steady_down(wanted, past, now)
        past.recommended.append((now, wanted))
        replicas, limit = _constant_rate(current, steady, least, most)
    else:
        steady, able = _steady(behavior, current, wanted, past, now)
        past.recommended.append((now, wanted))
        replicas, limit = _rate(behavior, current, steady, least, most, past, now)
    return Allowed(replicas=replicas, able=able, limited=replicas != steady, limit=limit)


def _steady_down(wanted: int, past: Past, now: float) -> tuple[int, Reason]:
    recent = [one for at, one in past.recommended if now - at <= _DOWN_WINDOW]
    highest = max([wanted, *recent])
    return highest, (_READY if highest == wanted else _HELD_DOWN)


def _constant_rate(current: int, wanted: int, least: int, most: int) -> tuple[int, Reason]:
    limit = max(2 * current, 4)
    if wanted < least:
        return least, _TOO_FEW
    if wanted > min(limit, most):
        return (limit, ("ScaleUpLimit", _TOO_FAST.format("in"))) if limit < most else (most, _TOO_MANY)
    return wanted, WITHIN


def _rules(behavior: Object, way: str) -> tuple[str, Iterable[Object], float]:
    rules = behavior.get(way) or {}
    default = 0.0 if way == "scaleUp" else _DOWN_WINDOW
    window = rules.get("stabilizationWindowSeconds")
    policies = rules.get("policies") or (_UP_POLICIES if way == "scaleUp" else _DOWN_POLICIES)
    return rules.get("selectPolicy") or "Max", policies, default if window is None else float(window)


def _steady(behavior: Object, current: int, wanted: int, past: Past, now: float) -> tuple[int, Reason]:
    up_window, down_window = _rules(behavior, "scaleUp")[2], _rules(behavior, "scaleDown")[2]
    lowest = min([wanted, *(one for at, one in past.recommended if now - at < up_window)])
    highest = max([wanted, *(one for at, one in past.recommended if now - at < down_window)])
    steady = min(max(current, lowest), highest)
    if steady == wanted:
        return steady, _READY
    return steady, (_HELD_UP if wanted >= current else _HELD_DOWN)


def _rate(
    behavior: Object, current: int, wanted: int, least: int, most: int, past: Past, now: float
) -> tuple[int, Reason]:
    if wanted > current:
        limit = max(current, _limit(behavior, "scaleUp", current, past, now))
        bound, why = (limit, ("ScaleUpLimit", _TOO_FAST.format("in"))) if limit < most else (most, _TOO_MANY)
        return (bound, why) if wanted > bound else (wanted, WITHIN)
    if wanted < current:
        limit = min(current, _limit(behavior, "scaleDown", current, past, now))
        bound, why = (
            (limit, ("ScaleDownLimit", _TOO_FAST.format("de"))) if limit > least else (least, _TOO_FEW)
        )
        return (bound, why) if wanted < bound else (wanted, WITHIN)
    return wanted, WITHIN


def _limit(behavior: Object, way: str, current: int, past: Past, now: float) -> int:
    select, policies, _ = _rules(behavior, way)
    if select == "Disabled":
        return current
    up = way == "scaleUp"
    proposals = []
    for policy in policies:
        period = float(policy["periodSeconds"])
        start = current - sum(change for at, change in past.changed if now - at < period)
        value = int(policy["value"])
        if policy["type"] == "Pods":
            proposals.append(start + value if up else start - value)
        else:
            share = start * (1 + value / 100) if up else start * (1 - value / 100)
            proposals.append(ceil(share) if up else int(share))
    largest_change = select != "Min"
    return max(proposals) if up == largest_change else min(proposals)
