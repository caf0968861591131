"""Nobody gives away rights that they do not have: the check on writes to roles and bindings.

Who may `escalate` a role may put anything into it, who may `bind` a role may bind it; everybody else has to have each
right that the role would give. Belongs to admission, because it looks at other objects.
"""

from __future__ import annotations

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.auth import MASTERS, Attributes
from kubesim.apiserver.rbac.authorizer import GROUP, RbacAuthorizer
from kubesim.apiserver.rbac.rules import described, listed, missing
from kubesim.apiserver.requests import JsonObject
from kubesim.errors import quoted

_ROLES = frozenset({"roles", "clusterroles"})
_BINDINGS = frozenset({"rolebindings", "clusterrolebindings"})
_EVERYTHING: list[JsonObject] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]
_AGGREGATION = "must have cluster-admin privileges to use the aggregationRule"


class NoEscalation:
    """A plugin of admission."""

    def __init__(self, authorizer: RbacAuthorizer) -> None:
        self._authorizer = authorizer

    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        rt = attempt.rt
        if rt.group != GROUP or attempt.operation not in ("CREATE", "UPDATE"):
            return obj
        if MASTERS in attempt.user.groups or _only_ownership(attempt.old, obj):
            return obj
        if rt.plural in _ROLES:
            self._role(attempt, obj)
        elif rt.plural in _BINDINGS:
            self._binding(attempt, obj)
        return obj

    def _role(self, attempt: Attempt, role: JsonObject) -> None:
        if self._may(attempt, "escalate", attempt.rt.plural, attempt.namespace, attempt.name):
            return
        why = self._lacking(attempt, attempt.namespace, role.get("rules") or [])
        if why:
            raise errors.forbidden(attempt.rt.group_resource, attempt.name, why)
        if _aggregates(role) and self._lacking(attempt, "", _EVERYTHING):
            raise errors.forbidden(attempt.rt.group_resource, attempt.name, _AGGREGATION)

    def _binding(self, attempt: Attempt, binding: JsonObject) -> None:
        ref = binding["roleRef"]
        plural = "clusterroles" if ref["kind"] == "ClusterRole" else "roles"
        if self._may(attempt, "bind", plural, attempt.namespace, ref["name"]):
            return
        home = attempt.namespace if plural == "roles" else ""
        role = self._authorizer.role(ref["kind"], f"{home}/{ref['name']}")
        if role is None:
            raise errors.not_found(f"{ref['kind'].lower()}.{GROUP}", ref["name"])
        why = self._lacking(attempt, attempt.namespace, role.rules)
        if why:
            raise errors.forbidden(attempt.rt.group_resource, attempt.name, why)

    def _may(self, attempt: Attempt, verb: str, plural: str, namespace: str, name: str) -> bool:
        what = Attributes(verb=verb, path="", group=GROUP, resource=plural, namespace=namespace, name=name)
        return self._authorizer.decide(attempt.user, what).allowed

    def _lacking(self, attempt: Attempt, namespace: str, wanted: list[JsonObject]) -> str:
        """What the user would give and does not have, as the real server says it; "" for nothing."""
        user = attempt.user
        owned, problems = self._authorizer.rules_for(user, namespace)
        found = missing(owned, wanted)
        if not found:
            return ""
        text = (
            f"user {quoted(user.name)} (groups={listed(user.groups)}) is attempting to grant RBAC permissions "
            f"not currently held:\n{described(found)}"
        )
        return f"{text}; resolution errors: [{' '.join(problems)}]" if problems else text


def _aggregates(role: JsonObject) -> bool:
    return bool((role.get("aggregationRule") or {}).get("clusterRoleSelectors"))


def _only_ownership(old: JsonObject | None, new: JsonObject) -> bool:
    """Only what garbage collection needs has changed: owners and finalizers."""
    if old is None:
        return False
    ignored = ("ownerReferences", "finalizers", "managedFields", "resourceVersion")

    def bare(obj: JsonObject) -> JsonObject:
        meta = {key: value for key, value in obj["metadata"].items() if key not in ignored}
        return {**obj, "metadata": meta}

    return bare(old) == bare(new)
