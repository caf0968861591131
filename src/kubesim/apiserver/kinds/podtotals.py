"""What a pod needs as a whole: the sum of its containers, or the largest step of its start, and its overhead. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kubesim.errors import FieldError, JsonObject, forbidden_field, invalid_value, not_supported
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


_OF_PODS = ("cpu", "hugepages-", "memory")


def of_pods(name: str) -> bool:
    """Whether a resource can be given to a pod as a whole."""
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def of_containers(spec: JsonObject, kind: str) -> Amounts:
    """What the containers of a pod say that they need, whatever the pod says."""
    alone = {key: value for key, value in spec.items() if key not in ("resources", "overhead")}
    return pod_total(alone, kind)


def whole_pod(spec: JsonObject, path: str) -> list[FieldError]:
    """The amounts of a pod as a whole against those of its containers."""
    resources = spec["resources"]
    requests, limits = parsed(resources.get("requests")), parsed(resources.get("limits"))
    found: list[FieldError] = []
    if resources.get("claims") is not None:
        found.append(forbidden_field(f"{path}.claims", "claims cannot be set for Resources at pod-level"))
    found.extend(
        not_supported(f"{path}.{part}[{name}]", name, _OF_PODS)
        for part, amounts in (("limits", limits), ("requests", requests))
        for name in amounts
        if not of_pods(name)
    )
    for name, amount in of_containers(spec, "requests").items():
        own = requests.get(name, parse("0"))
        if of_pods(name) and amount.nanos > own.nanos:
            why = f"must be greater than or equal to aggregate container requests of {amount}"
            found.append(invalid_value(f"{path}.requests[{name}]", str(own), why))
    for at, one in enumerate(spec.get("containers") or ()):
        for name, amount in _of(one, "limits").items():
            if name in limits and amount.nanos > limits[name].nanos:
                why = f"must be less than or equal to pod limits of {limits[name]}"
                where = f"{path}.containers[{at}][{name}].limits"
                found.append(invalid_value(where, str(amount), why))
    return found
