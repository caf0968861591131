"""What a rule of a Role says, and whether rules cover other rules. Pure.

A compiled Role is an index by resource: a question looks at the few rules that name the resource or `*`, not at all.
Covering is decided on atoms (one group, one resource, one verb, one name), as the real server does, so that what is
missing can be named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kubesim.apiserver.auth import Attributes
from kubesim.apiserver.requests import JsonObject
from kubesim.errors import quoted

ALL = "*"


@dataclass(frozen=True, slots=True)
class _Rule:
    verbs: frozenset[str]
    groups: frozenset[str]
    names: frozenset[str]

    def allows(self, verb: str, group: str, name: str) -> bool:
        return (
            (verb in self.verbs or ALL in self.verbs)
            and (group in self.groups or ALL in self.groups)
            and (not self.names or name in self.names)
        )


class CompiledRole:
    """The rules of one role, by resource and by path."""

    def __init__(self, rules: Iterable[JsonObject]) -> None:
        self.rules = list(rules)
        self._by_resource: dict[str, list[_Rule]] = {}
        self._paths: list[tuple[frozenset[str], str]] = []
        for rule in self.rules:
            verbs = frozenset(rule.get("verbs") or ())
            made = _Rule(
                verbs, frozenset(rule.get("apiGroups") or ()), frozenset(rule.get("resourceNames") or ())
            )
            for resource in rule.get("resources") or ():
                self._by_resource.setdefault(resource, []).append(made)
            for path in rule.get("nonResourceURLs") or ():
                self._paths.append((verbs, path))

    def allows(self, what: Attributes) -> bool:
        if not what.resource:
            return any(
                (what.verb in verbs or ALL in verbs) and path_covers(pattern, what.path)
                for verbs, pattern in self._paths
            )
        by_resource, sub = self._by_resource, what.subresource
        names = (ALL, f"{what.resource}/{sub}", f"*/{sub}") if sub else (ALL, what.resource)
        for name in names:
            for rule in by_resource.get(name, ()):
                if rule.allows(what.verb, what.group, what.name):
                    return True
        return False


def path_covers(pattern: str, path: str) -> bool:
    """Whether a nonResourceURL means the path: it is the path, or a beginning of it and then `*`."""
    return pattern in (ALL, path) or (pattern.endswith(ALL) and path.startswith(pattern[:-1]))


def atoms(rule: JsonObject) -> Iterator[JsonObject]:
    """The rule as rules that name one thing each."""
    verbs = rule.get("verbs") or ()
    names = rule.get("resourceNames") or ()
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in verbs:
                one: JsonObject = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                if names:
                    yield from ({**one, "resourceNames": [name]} for name in names)
                else:
                    yield one
    for path in rule.get("nonResourceURLs") or ():
        for verb in verbs:
            yield {"nonResourceURLs": [path], "verbs": [verb]}


def _has(owned: JsonObject, key: str, wanted: str) -> bool:
    given = owned.get(key) or ()
    return wanted in given or ALL in given


def _covers(owned: JsonObject, atom: JsonObject) -> bool:
    if not _has(owned, "verbs", atom["verbs"][0]):
        return False
    if "nonResourceURLs" in atom:
        path = atom["nonResourceURLs"][0]
        return any(path_covers(pattern, path) for pattern in owned.get("nonResourceURLs") or ())
    resource = atom["resources"][0]
    sub = resource.partition("/")[2]
    resources = owned.get("resources") or ()
    if not (_has(owned, "resources", resource) or (sub and f"*/{sub}" in resources)):
        return False
    names = owned.get("resourceNames") or ()
    if names and ("resourceNames" not in atom or atom["resourceNames"][0] not in names):
        return False
    return _has(owned, "apiGroups", atom["apiGroups"][0])


def missing(owned: list[JsonObject], wanted: Iterable[JsonObject]) -> list[JsonObject]:
    """The atoms of the wanted rules that no owned rule covers."""
    return [atom for rule in wanted for atom in atoms(rule) if not any(_covers(one, atom) for one in owned)]


def described(found: list[JsonObject]) -> str:
    """Atoms as the real server lists them: verbs of one resource together, a line each, sorted."""
    merged: dict[tuple[str, ...], JsonObject] = {}
    for atom in found:
        if "resources" in atom:
            key = (*atom["apiGroups"], *atom["resources"], *atom.get("resourceNames", ()))
        else:
            key = ("", "", "", *atom["nonResourceURLs"], *atom["verbs"])
        known = merged.get(key)
        merged[key] = atom if known is None else {**known, "verbs": [*known["verbs"], *atom["verbs"]]}
    return "\n".join(sorted({_line(rule) for rule in merged.values()}))


_SHOWN = (
    ("APIGroups", "apiGroups"),
    ("Resources", "resources"),
    ("NonResourceURLs", "nonResourceURLs"),
    ("ResourceNames", "resourceNames"),
    ("Verbs", "verbs"),
)


def _line(rule: JsonObject) -> str:
    parts = [f"{title}:{listed(rule[key])}" for title, key in _SHOWN if rule.get(key)]
    return "{" + ", ".join(parts) + "}"


def listed(texts: Iterable[str]) -> str:
    """Go's `%q` of a list of strings."""
    return "[" + " ".join(quoted(text) for text in texts) + "]"


def aggregated(role: JsonObject, others: Iterable[JsonObject]) -> list[JsonObject]:
    """The rules that a ClusterRole with an aggregationRule has by those that its selectors take."""
    from_selectors: list[JsonObject] = []
    selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()
    found = sorted(
        (one for one in others if one["metadata"]["name"] != role["metadata"]["name"]),
        key=lambda one: str(one["metadata"]["name"]),
    )
    for selector in selectors:
        for one in found:
            if selects(selector, one["metadata"].get("labels") or {}):
                from_selectors += [rule for rule in one.get("rules") or () if rule not in from_selectors]
    return from_selectors


def selects(selector: JsonObject, labels: JsonObject) -> bool:
    """A label selector with matchLabels and matchExpressions."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for one in selector.get("matchExpressions") or ():
        value, values = labels.get(one["key"]), one.get("values") or ()
        match one["operator"]:
            case "In":
                fits = value in values
            case "NotIn":
                fits = value not in values
            case "Exists":
                fits = value is not None
            case _:
                fits = value is None
        if not fits:
            return False
    return True
