"""LimitRange and ResourceQuota: which names and amounts make sense in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kubesim.apiserver.kinds.amounts import STANDARD, amount_errors
from kubesim.apiserver.kinds.base import Strategy
from kubesim.apiserver.kinds.pod_defaults import each, filled, replaced
from kubesim.errors import FieldError, JsonObject, duplicate, forbidden_field, invalid_value, required
from kubesim.schema.meta import qualified_name
from kubesim.schema.quantity import NANO, parse
from kubesim.schema.registry import ResourceType

_COUNTED = (
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
)
_QUOTA_NAMES = frozenset(
    (
        *STANDARD,
        *_COUNTED,
        *(f"requests.{name}" for name in STANDARD),
        *(f"limits.{name}" for name in STANDARD),
        "requests.storage",
    )
)
_STANDARD_NAMES = _QUOTA_NAMES | {"storage"}
_ENDING = frozenset({"Terminating", "NotTerminating"})
_QUALITY = frozenset({"BestEffort", "NotBestEffort"})
_SCOPES = _ENDING | _QUALITY | {"PriorityClass", "CrossNamespacePodAffinity", "VolumeAttributesClass"}
_POD_NAMES = frozenset(
    ("pods", *(f"{kind}{name}" for kind in ("", "requests.", "limits.") for name in STANDARD))
)
_CLAIM_NAMES = frozenset({"persistentvolumeclaims", "requests.storage"})
_IN_SCOPE = {
    **dict.fromkeys(_ENDING, _POD_NAMES),
    **dict.fromkeys(("NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"), _POD_NAMES),
    "BestEffort": frozenset({"pods"}),
    "VolumeAttributesClass": _CLAIM_NAMES,
}


def _name_errors(name: str, path: str) -> list[FieldError]:
    found = [invalid_value(path, name, why) for why in qualified_name(name)]
    if not found and "/" not in name and name not in _STANDARD_NAMES and not _is_huge(name):
        found.append(invalid_value(path, name, "must be a standard resource type or fully qualified"))
    return found


def _is_huge(name: str) -> bool:
    return name.removeprefix("requests.").startswith("hugepages-")


class QuotaStrategy(Strategy):
    """Names are those that a quota can count, scopes fit them and cannot change."""

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj.get("spec") or {}
        found: list[FieldError] = []
        for name, text in (spec.get("hard") or {}).items():
            path = f"spec.hard[{name}]"
            found += _name_errors(name, path)
            if "/" not in name and name not in _QUOTA_NAMES and not _is_huge(name):
                found.append(invalid_value(path, name, "must be a standard resource for quota"))
            found += amount_errors(name, text, path)
            if name in _COUNTED and parse(text).nanos % NANO:
                found.append(invalid_value(path, text, "must be an integer"))
        scopes = spec.get("scopes") or []
        found += _scope_errors(scopes, scopes, spec, "spec.scopes")
        return found + _selector_errors(spec)

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        before, after = (set((one.get("spec") or {}).get("scopes") or ()) for one in (old, new))
        if before == after:
            return []
        return [invalid_value("spec.scopes", (new.get("spec") or {}).get("scopes"), "field is immutable")]


def _scope_errors(scopes: list[str], value: object, spec: JsonObject, path: str) -> Iterator[FieldError]:
    for scope in scopes:
        if scope not in _SCOPES:
            yield invalid_value(path, value, "unsupported scope")
        for name in spec.get("hard") or ():
            if name in _QUOTA_NAMES and name not in _IN_SCOPE.get(scope, _QUOTA_NAMES):
                yield invalid_value(path, value, "unsupported scope applied to resource")
    for pair in (_QUALITY, _ENDING):
        if pair <= set(scopes):
            yield invalid_value(path, value, "conflicting scopes")


def _selector_errors(spec: JsonObject) -> list[FieldError]:
    path = "spec.scopeSelector.matchExpressions"
    selector = spec.get("scopeSelector") or {}
    expressions = selector.get("matchExpressions") or []
    found: list[FieldError] = []
    for one in expressions:
        operator, values, scope = one.get("operator"), one.get("values"), one.get("scopeName", "")
        if scope not in _SCOPES:
            found.append(invalid_value(f"{path}.scopeName", scope, "unsupported scope"))
        if not _fits(scope, spec):
            found.append(invalid_value(path, selector, "unsupported scope applied to resource"))
        if scope in _EXISTING and operator != "Exists":
            found.append(invalid_value(f"{path}.operator", operator, _ONLY_EXISTS))
        if operator in ("In", "NotIn") and not values:
            why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            found.append(required(f"{path}.values", why))
        elif operator in ("Exists", "DoesNotExist") and values:
            why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            found.append(invalid_value(f"{path}.values", values, why))
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            found.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
    names = {one.get("scopeName", "") for one in expressions}
    found.extend(
        invalid_value(path, spec.get("scopes"), "conflicting scopes")
        for pair in (_QUALITY, _ENDING)
        if pair <= names
    )
    return found


_EXISTING = _ENDING | _QUALITY | {"CrossNamespacePodAffinity"}
_ONLY_EXISTS = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)


def _fits(scope: str, spec: JsonObject) -> bool:
    """Whether all that the quota limits can be counted within a scope."""
    return all(
        name in _IN_SCOPE.get(scope, _QUOTA_NAMES) for name in spec.get("hard") or () if name in _QUOTA_NAMES
    )


class LimitRangeStrategy(Strategy):
    """What is not said follows from what is: the default request from the default limit, that from the maximum."""

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        def item(one: JsonObject) -> JsonObject:
            if one.get("type") != "Container":
                return one
            most, least = one.get("max") or {}, one.get("min") or {}
            default = filled(one.get("default") or {}, most)
            request = filled(filled(one.get("defaultRequest") or {}, default), least)
            made = dict(one)
            if default:
                made["default"] = default
            if request:
                made["defaultRequest"] = request
            return one if made == one else made

        return replaced(obj, "spec", lambda spec: replaced(spec, "limits", each(item)))

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        seen: set[str] = set()
        for at, item in enumerate((obj.get("spec") or {}).get("limits") or ()):
            path, kind = f"spec.limits[{at}]", item.get("type", "")
            if kind in seen:
                found.append(duplicate(f"{path}.type", kind))
            seen.add(kind)
            found += _item_errors(item, kind, path)
        return found


def _item_errors(item: JsonObject, kind: str, path: str) -> Iterator[FieldError]:
    parts = {part: item.get(part) or {} for part in ("max", "min", "default", "defaultRequest")}
    if kind == "Pod":
        for part in ("default", "defaultRequest"):
            if parts[part]:
                yield forbidden_field(f"{path}.{part}", "may not be specified when `type` is 'Pod'")
    if kind == "PersistentVolumeClaim" and not any("storage" in parts[part] for part in ("min", "max")):
        why = "either minimum or maximum storage value is required, but neither was provided"
        yield required(f"{path}.limits", why)
    ratios = item.get("maxLimitRequestRatio") or {}
    for part, amounts in (*parts.items(), ("maxLimitRequestRatio", ratios)):
        for name in amounts:
            yield from _name_errors(name, f"{path}.{part}[{name}]")
    for name in sorted({name for amounts in parts.values() for name in amounts} | set(ratios)):
        amounts = {part: given[name] for part, given in parts.items() if name in given}
        yield from _order_errors(amounts, name, path)
        if name in ratios:
            yield from _ratio_errors(ratios[name], amounts, f"{path}.maxLimitRequestRatio[{name}]")


_ORDER: Iterable[tuple[str, str, str, str, str]] = (
    # what must not be larger, than what, where it is said, of which value, how
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)


def _order_errors(amounts: dict[str, str], name: str, path: str) -> Iterator[FieldError]:
    for less, more, where, value, text in _ORDER:
        if less in amounts and more in amounts and parse(amounts[less]).nanos > parse(amounts[more]).nanos:
            said = text.format(amounts[less], amounts[more])
            yield invalid_value(f"{path}.{where}[{name}]", amounts[value], said)


def _ratio_errors(text: str, amounts: dict[str, str], path: str) -> Iterator[FieldError]:
    ratio = parse(text).nanos
    if ratio < NANO:
        yield invalid_value(path, text, f"ratio {text} is less than 1")
    if "min" in amounts and "max" in amounts:
        least, most = parse(amounts["min"]).nanos, parse(amounts["max"]).nanos
        if least and ratio / NANO > most / least:
            yield invalid_value(path, text, f"ratio {text} is greater than max/min = {most / least:.6f}")
