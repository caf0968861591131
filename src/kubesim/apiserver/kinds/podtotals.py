"""What a pod needs as a whole: the sum of its containers, or the largest step of its start, and its overhead. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kubesim.errors import JsonObject
from kubesim.schema.quantity import Quantity, add, parse

Amounts = dict[str, Quantity]


def parsed(amounts: Mapping[str, str] | None) -> Amounts:
    """The quantities of a resource list."""
    return {name: parse(text) for name, text in (amounts or {}).items()}


def plus(one: Amounts, other: Amounts) -> Amounts:
    """The sum of two resource lists."""
    total = dict(one)
    for name, amount in other.items():
        total[name] = add(total[name], amount) if name in total else amount
    return total


def largest(one: Amounts, other: Amounts) -> Amounts:
    """The larger amount of each resource."""
    found = dict(one)
    for name, amount in other.items():
        if name not in found or amount.nanos > found[name].nanos:
            found[name] = amount
    return found


def pod_total(spec: JsonObject, kind: str) -> Amounts:
    """The `requests` or `limits` of a pod: what the scheduler and quotas count."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        total = plus(total, _of(container, kind))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = _of(container, kind)
        if container.get("restartPolicy") == "Always":
            total, sidecars = plus(total, own), plus(sidecars, own)
            peak = largest(peak, sidecars)
        else:
            peak = largest(peak, plus(own, sidecars))
    total = {**largest(total, peak), **_of(spec, kind)}
    overhead = parsed(spec.get("overhead"))
    if kind == "limits":
        overhead = {name: amount for name, amount in overhead.items() if name in total}
    return plus(total, overhead)


def _of(holder: JsonObject, kind: str) -> Amounts:
    return parsed((holder.get("resources") or {}).get(kind))
