"""Expressions in CEL about a request: the conditions of webhooks and policies, and what policies compute.

An expression sees `object`, `oldObject`, `request`, `authorizer` and, in policies, `namespaceObject`, `params` and
`variables`; no other object, and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.admission.matching import namespace_of
from kubesim.apiserver.admission.review import request_of
from kubesim.apiserver.auth import Attributes
from kubesim.apiserver.requests import JsonObject, User
from kubesim.schema import cel
from kubesim.schema.admission_cel import compiled
from kubesim.schema.cel import Budget, CelError, CelSyntax
from kubesim.schema.cel.libraries import Authorizer, Decision
from kubesim.schema.registry import ResourceType

BUDGET = 10_000_000
"""What all expressions of one policy or webhook may cost together for one request, as in the real server."""


@dataclass(slots=True, kw_only=True)
class Facts:
    """What the expressions of one webhook or policy see of one request."""

    variables: dict[str, Any]
    budget: Budget = field(default_factory=lambda: Budget(BUDGET))

    def compute(self, program: cel.Program) -> Any:
        """Raises CelError with the expression in it, as the real server says it."""
        try:
            return program.run(self.variables, self.budget)
        except CelError as wrong:
            raise CelError(f"expression '{program.source}' resulted in error: {wrong}") from None


def facts(
    cluster: Cluster, attempt: Attempt, rt: ResourceType, obj: JsonObject | None, old: JsonObject | None
) -> Facts:
    request = {
        key: value
        for key, value in request_of(attempt, rt, None, None, "").items()
        if key not in ("uid", "object", "oldObject") and value is not None
    }
    if not attempt.name:
        request.pop("name", None)
    return Facts(
        variables={
            "object": obj,
            "oldObject": old,
            "request": request,
            "authorizer": _authorizer(cluster, attempt),
        }
    )


def _authorizer(cluster: Cluster, attempt: Attempt) -> Authorizer:
    def decide(asked: Mapping[str, str]) -> Decision:
        account = asked.get("account", "")
        user = attempt.user
        if account:
            namespace = account.split(":")[2]
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
            user = User(name=account, groups=groups)
        found = cluster.authorizer.decide(
            user,
            Attributes(
                verb=asked["verb"],
                path=asked.get("path", ""),
                group=asked.get("group", ""),
                resource=asked.get("resource", ""),
                subresource=asked.get("subresource", ""),
                namespace=asked.get("namespace", ""),
                name=asked.get("name", ""),
            ),
        )
        return Decision(found.allowed, found.reason)

    about = {
        "group": attempt.rt.group,
        "resource": attempt.rt.plural,
        "subresource": attempt.subresource,
        "namespace": namespace_of(attempt),
        "name": attempt.name,
    }
    return Authorizer(decide, request=about)


def failed_condition(
    conditions: Iterable[JsonObject],
    about: Facts,
    *,
    policy: bool,
    params: bool = False,
    declared: tuple[str, ...] = (),
) -> str | None:
    """The first condition that does not hold, None when all do. Raises CelError when that cannot be said."""
    wrong: list[str] = []
    for one in conditions:
        try:
            holds = about.compute(compiled(one["expression"], policy, params, declared))
            if holds is False:
                return str(one["name"])
            if holds is not True:
                wrong.append(f"expression '{one['expression']}' resulted in error: non-boolean result")
        except (CelError, CelSyntax) as error:
            wrong.append(str(error))
    if wrong:
        raise CelError(wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]")
    return None


def conditions_hold(
    cluster: Cluster,
    attempt: Attempt,
    hook: JsonObject,
    rt: ResourceType,
    obj: JsonObject | None,
    old: JsonObject | None,
) -> bool:
    """Whether a webhook is to be called. Raises StatusError 403 when that cannot be said and it must not fail open."""
    try:
        about = facts(cluster, attempt, rt, obj, old)
        return failed_condition(hook["matchConditions"], about, policy=False) is None
    except CelError as wrong:
        if hook.get("failurePolicy") == "Ignore":
            return False
        raise errors.forbidden(attempt.rt.group_resource, attempt.name, str(wrong)) from None
