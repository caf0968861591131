"""What a pod may say about where it runs: node selectors, affinities, tolerations, topology spread, gates."""

from __future__ import annotations

from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import dns_label, dns_subdomain, label_value, labels, qualified_name

_WEIGHT = "must be in the range 1-100"
_TERM_REQUIRED = "must have at least one node selector term"


def label_key(key: str, path: str) -> list[FieldError]:
    return [invalid_value(path, key, why) for why in qualified_name(key)]


def label_selector(selector: JsonObject | None, path: str) -> list[FieldError]:
    """A selector in an object: matchLabels and matchExpressions."""
    if selector is None:
        return []
    found = labels(selector.get("matchLabels"), f"{path}.matchLabels")
    for at, term in enumerate(selector.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{at}]"
        operator, values = term["operator"], term.get("values") or []
        if operator in ("In", "NotIn"):
            if not values:
                why = "must be specified when `operator` is 'In' or 'NotIn'"
                found.append(required(f"{here}.values", why))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                found.append(forbidden_field(f"{here}.values", why))
        else:
            found.append(invalid_value(f"{here}.operator", operator, "not a valid selector operator"))
        found += label_key(term["key"], f"{here}.key")
        found.extend(
            invalid_value(f"{here}.values[{number}]", value, why)
            for number, value in enumerate(values)
            for why in label_value(value)
        )
    return found


def _node_requirement(term: JsonObject, path: str, *, strict: bool) -> list[FieldError]:
    """One expression of a term; only what is required of a node is `strict` about values."""
    operator, values = term["operator"], term.get("values") or []
    found = [
        invalid_value(f"{path}.values[{at}]", value, why)
        for at, value in enumerate(values if strict else ())
        for why in label_value(value)
    ]
    if operator in ("In", "NotIn"):
        if not values:
            found.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            found.append(forbidden_field(f"{path}.values", why))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            why = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            found.append(required(f"{path}.values", why))
    else:
        found.append(invalid_value(f"{path}.operator", operator, "not a valid selector operator"))
    return found + label_key(term["key"], f"{path}.key")


def _node_term(term: JsonObject, path: str, *, strict: bool) -> list[FieldError]:
    found: list[FieldError] = []
    for at, one in enumerate(term.get("matchExpressions") or ()):
        found += _node_requirement(one, f"{path}.matchExpressions[{at}]", strict=strict)
    for at, one in enumerate(term.get("matchFields") or ()):
        here = f"{path}.matchFields[{at}]"
        if one["key"] != "metadata.name":
            found.append(invalid_value(f"{here}.key", one["key"], "not a valid field selector key"))
        else:
            found.extend(
                invalid_value(f"{here}.values[{number}]", value, why)
                for number, value in enumerate(one.get("values") or ())
                for why in dns_subdomain(value)
            )
        if one["operator"] not in ("In", "NotIn"):
            found.append(invalid_value(f"{here}.operator", one["operator"], "not a valid selector operator"))
        elif len(one.get("values") or ()) != 1:
            why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            found.append(required(f"{here}.values", why))
    return found


def node_selector(selector: JsonObject, path: str) -> list[FieldError]:
    """Terms, one of which has to match a node."""
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        return [required(f"{path}.nodeSelectorTerms", _TERM_REQUIRED)]
    found: list[FieldError] = []
    for at, term in enumerate(terms):
        found += _node_term(term, f"{path}.nodeSelectorTerms[{at}]", strict=True)
    return found


def _pod_term(term: JsonObject, path: str) -> list[FieldError]:
    found = label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    found += label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    found.extend(
        invalid_value(f"{path}.namespace", name, why)
        for name in term.get("namespaces") or ()
        for why in dns_label(name)
    )
    found += _affinity_keys(term, path)
    if not term["topologyKey"]:
        found.append(required(f"{path}.topologyKey", "can not be empty"))
    return found + label_key(term["topologyKey"], f"{path}.topologyKey")


def _affinity_keys(term: JsonObject, path: str) -> list[FieldError]:
    """matchLabelKeys and mismatchLabelKeys, which are only of use beside a selector."""
    found: list[FieldError] = []
    same, other = term.get("matchLabelKeys") or [], term.get("mismatchLabelKeys") or []
    for name, keys in (("matchLabelKeys", same), ("mismatchLabelKeys", other)):
        if keys and term.get("labelSelector") is None:
            why = "must not be specified when labelSelector is not set"
            found.append(forbidden_field(f"{path}.{name}", why))
        elif keys:
            found += [
                error for at, key in enumerate(keys) for error in label_key(key, f"{path}.{name}[{at}]")
            ]
    found.extend(
        invalid_value(
            f"{path}.matchLabelKeys[{at}]", key, "exists in both matchLabelKeys and mismatchLabelKeys"
        )
        for at, key in enumerate(same)
        if key in other
    )
    return found


_REQUIRED_KEY = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED_KEY = "preferredDuringSchedulingIgnoredDuringExecution"


def _weight(term: JsonObject, path: str) -> list[FieldError]:
    weight = term["weight"]
    return [] if 1 <= weight <= 100 else [invalid_value(f"{path}.weight", weight, _WEIGHT)]


def affinity(value: JsonObject, path: str) -> list[FieldError]:
    """Node affinity, pod affinity and pod anti-affinity."""
    found: list[FieldError] = []
    node = value.get("nodeAffinity") or {}
    here = f"{path}.nodeAffinity"
    if _REQUIRED_KEY in node:
        found += node_selector(node[_REQUIRED_KEY], f"{here}.{_REQUIRED_KEY}")
    for at, term in enumerate(node.get(_PREFERRED_KEY) or ()):
        place = f"{here}.{_PREFERRED_KEY}[{at}]"
        found += _weight(term, place) + _node_term(term["preference"], f"{place}.preference", strict=False)
    for kind in ("podAffinity", "podAntiAffinity"):
        pods = value.get(kind) or {}
        for at, term in enumerate(pods.get(_REQUIRED_KEY) or ()):
            found += _pod_term(term, f"{path}.{kind}.{_REQUIRED_KEY}[{at}]")
        for at, term in enumerate(pods.get(_PREFERRED_KEY) or ()):
            place = f"{path}.{kind}.{_PREFERRED_KEY}[{at}]"
            found += _weight(term, place) + _pod_term(term["podAffinityTerm"], f"{place}.podAffinityTerm")
    return found


EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def tolerations(listed: list[JsonObject], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for at, one in enumerate(listed):
        here = f"{path}[{at}]"
        key, operator = one.get("key", ""), one.get("operator", "")
        effect, value = one.get("effect", ""), one.get("value", "")
        if key:
            found += label_key(key, f"{here}.key")
        elif operator != "Exists":
            why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            found.append(invalid_value(f"{here}.operator", operator, why))
        if one.get("tolerationSeconds") is not None and effect != "NoExecute":
            why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            found.append(invalid_value(f"{here}.effect", effect, why))
        if operator in ("", "Equal"):
            wrong = label_value(value)
            if wrong:
                found.append(invalid_value(f"{here}.operator", value, ";".join(wrong)))
        elif operator == "Exists":
            if value:
                found.append(
                    invalid_value(
                        f"{here}.operator", value, "value must be empty when `operator` is 'Exists'"
                    )
                )
        else:
            found.append(not_supported(f"{here}.operator", operator, ("Equal", "Exists")))
        if effect and effect not in EFFECTS:
            found.append(not_supported(f"{here}.effect", effect, EFFECTS))
    return found


def topology_spread(listed: list[JsonObject], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for at, one in enumerate(listed):
        here = f"{path}[{at}]"
        if one["maxSkew"] <= 0:
            found.append(invalid_value(f"{here}.maxSkew", one["maxSkew"], "must be greater than zero"))
        if not one["topologyKey"]:
            found.append(required(f"{here}.topologyKey", "can not be empty"))
        unsatisfiable = one["whenUnsatisfiable"]
        if unsatisfiable not in ("DoNotSchedule", "ScheduleAnyway"):
            known = ("DoNotSchedule", "ScheduleAnyway")
            found.append(not_supported(f"{here}.whenUnsatisfiable", unsatisfiable, known))
        pair = (one["topologyKey"], unsatisfiable)
        if pair in [(other["topologyKey"], other["whenUnsatisfiable"]) for other in listed[at + 1 :]]:
            text = f"{{{pair[0]}, {pair[1]}}}"
            found.append(duplicate(f"{here}.{{topologyKey, whenUnsatisfiable}}", text))
        domains = one.get("minDomains")
        if domains is not None and domains <= 0:
            found.append(invalid_value(f"{here}.minDomains", domains, "must be greater than zero"))
        if domains is not None and unsatisfiable != "DoNotSchedule":
            why = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {unsatisfiable}"
            found.append(invalid_value(f"{here}.minDomains", domains, why))
        for policy in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            value = one.get(policy)
            if value is not None and value not in ("Honor", "Ignore"):
                found.append(not_supported(f"{here}.{policy}", value, ("Honor", "Ignore")))
        found += _spread_keys(one, f"{here}.matchLabelKeys")
        found += label_selector(one.get("labelSelector"), f"{here}.labelSelector")
    return found


def _spread_keys(one: JsonObject, path: str) -> list[FieldError]:
    keys, selector = one.get("matchLabelKeys") or (), one.get("labelSelector")
    if not keys:
        return []
    found: list[FieldError] = []
    if selector is None:
        found.append(forbidden_field(path, "must not be specified when labelSelector is not set"))
    used = {*(selector or {}).get("matchLabels", ())}
    used |= {term["key"] for term in (selector or {}).get("matchExpressions") or ()}
    for at, key in enumerate(keys):
        found += label_key(key, f"{path}[{at}]")
        if key in used:
            why = "exists in both matchLabelKeys and labelSelector"
            found.append(invalid_value(f"{path}[{at}]", key, why))
    return found


def taints(listed: list[JsonObject], path: str) -> list[FieldError]:
    """The taints of a node."""
    found: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for at, one in enumerate(listed):
        here = f"{path}[{at}]"
        found += label_key(one["key"], f"{here}.key")
        wrong = label_value(one.get("value", ""))
        if wrong:
            found.append(invalid_value(f"{here}.value", one["value"], ";".join(wrong)))
        if not one["effect"]:
            found.append(required(f"{here}.effect"))
        elif one["effect"] not in EFFECTS:
            found.append(not_supported(f"{here}.effect", one["effect"], EFFECTS))
        pair = (one["key"], one["effect"])
        if pair in seen:
            found.append(
                FieldError("FieldValueDuplicate", here, "taints must be unique by key and effect pair", one)
            )
        seen.add(pair)
    return found
