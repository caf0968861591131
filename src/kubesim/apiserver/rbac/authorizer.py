"""Who may do what: roles and bindings as they are in the store now, found through an index of subjects.

The index follows the tables of bindings by their revisions at the moment of a question, so that a binding counts from
the moment that its creation is answered, and nothing is done for a cluster in which nobody asks. Roles are compiled
when they are first needed. Members of `system:masters` pass before anything is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from kubesim.apiserver.auth import ALLOWED, MASTERS, Attributes, Decision
from kubesim.apiserver.rbac.rules import CompiledRole
from kubesim.apiserver.requests import JsonObject, User
from kubesim.errors import quoted
from kubesim.store import Compacted, Store, Stored
from kubesim.store.records import ChangeType

GROUP = "rbac.authorization.k8s.io"
_CLUSTER_BINDINGS, _BINDINGS = f"{GROUP}/clusterrolebindings", f"{GROUP}/rolebindings"
_TABLES = {"ClusterRole": f"{GROUP}/clusterroles", "Role": f"{GROUP}/roles"}


@dataclass(frozen=True, slots=True)
class Grant:
    """One subject of one binding."""

    binding: str
    """The key of the binding in its table."""
    role_kind: str
    role: str
    """The key of the role in its table."""
    words: str
    """How the real server names it."""


class RbacAuthorizer:
    """Decides from the store's roles and bindings."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = {_CLUSTER_BINDINGS: -1, _BINDINGS: -1}
        self._grants: dict[str, dict[str, list[Grant]]] = {}
        """By namespace ("" for the whole cluster), then by subject."""
        self._roles: dict[tuple[str, str], tuple[Stored, CompiledRole]] = {}

    def decide(self, user: User, what: Attributes) -> Decision:
        if MASTERS in user.groups:
            return ALLOWED
        problems: list[str] = []
        for grant in self._granted(user, what.namespace):
            role = self.role(grant.role_kind, grant.role)
            if role is None:
                problems.append(_unknown(grant))
            elif role.allows(what):
                return Decision(True, f"RBAC: allowed by {grant.words}")
        return Decision(False, _reason(problems))

    def rules_for(self, user: User, namespace: str) -> tuple[list[JsonObject], list[str]]:
        """All rules that the user has there, and what could not be resolved."""
        rules: list[JsonObject] = []
        problems: list[str] = []
        for grant in self._granted(user, namespace):
            role = self.role(grant.role_kind, grant.role)
            if role is None:
                problems.append(_unknown(grant))
            else:
                rules += role.rules
        return rules, list(dict.fromkeys(problems))

    def role(self, kind: str, key: str) -> CompiledRole | None:
        """A role by its key in the store."""
        table = _TABLES.get(kind)
        stored = self._store.get(table, key) if table else None
        if stored is None:
            self._roles.pop((kind, key), None)
            return None
        known = self._roles.get((kind, key))
        if known is not None and known[0] is stored:
            return known[1]
        compiled = CompiledRole(_decoded(stored).get("rules") or ())
        self._roles[kind, key] = (stored, compiled)
        return compiled

    def _granted(self, user: User, namespace: str) -> Iterator[Grant]:
        for table, seen in self._seen.items():
            if self._store.table(table).last_change != seen:
                self._follow(table, seen)
        subjects = ["u:" + user.name, *("g:" + group for group in user.groups)]
        for where in ("", namespace) if namespace else ("",):
            granted = self._grants.get(where)
            if granted:
                for subject in subjects:
                    yield from granted.get(subject, ())

    def _follow(self, name: str, seen: int) -> None:
        """Bring the index up to the table."""
        table = self._store.table(name)
        try:
            if seen < 0:
                raise Compacted(seen, table.last_change)
            changes = table.changes(seen)
        except Compacted:
            cluster = name == _CLUSTER_BINDINGS
            for where in [key for key in self._grants if (key == "") == cluster]:
                del self._grants[where]
            for stored in table.all():
                self._add(stored)
        else:
            for change in changes:
                if change.previous is not None:
                    self._remove(change.previous)
                if change.type is not ChangeType.DELETED:
                    self._add(change.stored)
        self._seen[name] = table.last_change

    def _add(self, stored: Stored) -> None:
        namespace = stored.name.partition("/")[0]
        granted = self._grants.setdefault(namespace, {})
        for subject, grant in _grants(stored, namespace):
            granted.setdefault(subject, []).append(grant)

    def _remove(self, stored: Stored) -> None:
        namespace = stored.name.partition("/")[0]
        granted = self._grants.get(namespace, {})
        for subject, grant in _grants(stored, namespace):
            kept = [one for one in granted.get(subject, ()) if one.binding != grant.binding]
            if kept:
                granted[subject] = kept
            else:
                granted.pop(subject, None)


def _grants(stored: Stored, namespace: str) -> Iterator[tuple[str, Grant]]:
    binding = _decoded(stored)
    ref = binding["roleRef"]
    name = binding["metadata"]["name"]
    if namespace:
        head = f'RoleBinding "{name}/{namespace}" of {ref["kind"]} {quoted(ref["name"])}'
    else:
        head = f'ClusterRoleBinding "{name}" of {ref["kind"]} {quoted(ref["name"])}'
    role = f"{namespace if ref['kind'] == 'Role' else ''}/{ref['name']}"
    for subject in binding.get("subjects") or ():
        kind, of = subject["kind"], subject["name"]
        if kind == "ServiceAccount":
            home = subject.get("namespace") or namespace
            key, words = f"u:system:serviceaccount:{home}:{of}", f'"{of}/{home}"'
        elif kind in ("User", "Group"):
            key, words = f"{kind[0].lower()}:{of}", quoted(of)
        else:
            continue
        yield key, Grant(stored.name, ref["kind"], role, f"{head} to {kind} {words}")


def _decoded(stored: Stored) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(b"{" + stored.data)
    return found


def _unknown(grant: Grant) -> str:
    name = grant.role.partition("/")[2]
    return f"{grant.role_kind.lower()}.{GROUP} {quoted(name)} not found"


def _reason(problems: list[str]) -> str:
    found = list(dict.fromkeys(problems))
    if not found:
        return ""
    return "RBAC: " + (found[0] if len(found) == 1 else f"[{', '.join(found)}]")
