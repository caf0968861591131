"""Amounts of resources: which names there are, that requests fit limits, and the quality of service that follows."""

from __future__ import annotations

from collections.abc import Mapping

from kubesim.errors import FieldError, JsonObject, forbidden_field, invalid_value, required
from kubesim.schema.meta import qualified_name
from kubesim.schema.quantity import NANO, parse

STANDARD = ("cpu", "memory", "ephemeral-storage")
_HUGE = "hugepages-"


def is_extended(name: str) -> bool:
    """Whether a name is an extended resource: qualified, and not of Kubernetes' own domain."""
    return (
        "/" in name and not name.split("/")[0].endswith("kubernetes.io") and not name.startswith("requests.")
    )


def _overcommits(name: str) -> bool:
    return name in STANDARD or ("/" not in name and not name.startswith(_HUGE))


def container_name_errors(name: str, path: str) -> list[FieldError]:
    found = [invalid_value(path, name, why) for why in qualified_name(name)]
    if not found and "/" not in name and name not in STANDARD and not name.startswith(_HUGE):
        found.append(invalid_value(path, name, "must be a standard resource for containers"))
        found.insert(0, invalid_value(path, name, "must be a standard resource type or fully qualified"))
    return found


def amount_errors(name: str, text: str, path: str) -> list[FieldError]:
    """An amount must not be negative, and whole where the thing cannot be divided."""
    amount = parse(text)
    if amount.nanos < 0:
        return [invalid_value(path, text, "must be greater than or equal to 0")]
    if (is_extended(name) or name.startswith(_HUGE)) and amount.nanos % NANO:
        return [invalid_value(path, text, "must be an integer")]
    return []


def _limit_errors(name: str, text: str, limits: Mapping[str, str], path: str) -> list[FieldError]:
    limit = limits.get(name)
    if limit is None:
        if _overcommits(name):
            return []
        return [required(f"{path}.limits", "Limit must be set for non overcommitable resources")]
    asked, most = parse(text).nanos, parse(limit).nanos
    if not _overcommits(name) and asked != most:
        return [invalid_value(f"{path}.requests", text, f"must be equal to {name} limit of {limit}")]
    if asked > most:
        return [
            invalid_value(f"{path}.requests", text, f"must be less than or equal to {name} limit of {limit}")
        ]
    return []


def container_resources(resources: JsonObject, path: str) -> list[FieldError]:
    """The resources of a container."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    found: list[FieldError] = []
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, text in amounts.items():
            here = f"{path}.{kind}[{name}]"
            found += container_name_errors(name, here) + amount_errors(name, text, here)
    for name, text in requests.items():
        found += _limit_errors(name, text, limits, path)
    names = {*limits, *requests}
    if any(name.startswith(_HUGE) for name in names) and not names & {"cpu", "memory"}:
        found.append(forbidden_field(path, "HugePages require cpu or memory"))
    return found


def quality_of_service(spec: JsonObject) -> str:
    """Guaranteed, Burstable or BestEffort: only cpu and memory count."""
    guaranteed, anything = True, False
    own = spec.get("resources") or {}
    holders = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    for one in [spec] if own.get("requests") or own.get("limits") else holders:
        resources = one.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit = parse(limits.get(name, "0")).nanos
            request = parse(requests.get(name, "0")).nanos
            anything = anything or limit > 0 or request > 0
            guaranteed = guaranteed and limit > 0 and limit == request
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
