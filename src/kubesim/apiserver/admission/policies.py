"""ValidatingAdmissionPolicy: rules in CEL about requests, bound to what they are for by bindings with parameters.

policies_for     which policies, bindings and parameters a request meets; shared with `mutating`
ValidatingPolicies   a validator of admission: denies, warns, or writes into the audit log
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.admission.conditions import Facts, facts, failed_condition
from kubesim.apiserver.admission.matching import exempt, matched, namespace_object, namespace_of, selected
from kubesim.apiserver.admission.params import NoParams, params_of
from kubesim.apiserver.admission.versions import in_version
from kubesim.apiserver.requests import JsonObject
from kubesim.errors import StatusError
from kubesim.schema.admission_cel import compiled
from kubesim.schema.cel import CelError, CelSyntax, Lazy
from kubesim.schema.registry import ResourceType

GROUP = "admissionregistration.k8s.io"
_REVIEWS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}
_MOST_MESSAGE = 5 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """A policy that a request meets, through one binding and with one object of parameters."""

    policy: JsonObject
    binding: JsonObject | None
    params: JsonObject | None = None
    rt: ResourceType
    """The resource in the version that the policy knows."""
    problem: str = ""
    """Why it cannot be evaluated."""

    @property
    def spec(self) -> JsonObject:
        found: JsonObject = self.policy["spec"]
        return found

    @property
    def names(self) -> tuple[str, str]:
        binding = self.binding["metadata"]["name"] if self.binding is not None else ""
        return self.policy["metadata"]["name"], binding

    @property
    def fails_open(self) -> bool:
        return bool(self.spec.get("failurePolicy") == "Ignore")

    @property
    def declared(self) -> tuple[str, ...]:
        return tuple(one["name"] for one in self.spec.get("variables") or ())

    @property
    def has_params(self) -> bool:
        return self.spec.get("paramKind") is not None

    def expression(self, text: str, makes: bool = False) -> Any:
        """Raises CelSyntax."""
        return compiled(text, True, self.has_params, self.declared, makes)


def policies_for(
    cluster: Cluster, attempt: Attempt, obj: JsonObject | None, policies: str, bindings: str
) -> Iterator[Meeting]:
    """What a request meets, by the plurals of policies and bindings, in the order of their names."""
    if exempt(attempt) or attempt.rt.group in _REVIEWS:
        return
    bound: dict[str, list[JsonObject]] = {}
    for binding in _all(cluster, bindings):
        bound.setdefault(binding["spec"]["policyName"], []).append(binding)
    if not bound:
        return
    for policy in _all(cluster, policies):
        rt = _match(cluster, policy["spec"]["matchConstraints"], attempt, obj)
        for binding in bound.get(policy["metadata"]["name"], ()) if rt is not None else ():
            resources = binding["spec"].get("matchResources")
            if rt is None or (resources is not None and _match(cluster, resources, attempt, obj) is None):
                continue
            try:
                for params in params_of(cluster, policy["spec"], binding["spec"], namespace_of(attempt)):
                    yield Meeting(policy=policy, binding=binding, params=params, rt=rt)
            except NoParams as wrong:
                about = binding if wrong.of_binding else None
                yield Meeting(policy=policy, binding=about, rt=rt, problem=str(wrong))


def _all(cluster: Cluster, plural: str) -> Iterator[JsonObject]:
    table = cluster.store.table(f"{GROUP}/{plural}")
    for key in sorted(stored.name for stored in table.all()) if len(table) else ():
        found = cluster.lookup(GROUP, "v1", plural, key)
        if found is not None:
            yield found


def _match(
    cluster: Cluster, match: JsonObject, attempt: Attempt, obj: JsonObject | None
) -> ResourceType | None:
    """The resource as `matchConstraints` or `matchResources` know it, None where they do not take the request."""
    if not selected(cluster, match, attempt, obj):
        return None
    policy = match.get("matchPolicy") or "Equivalent"
    if matched(match.get("excludeResourceRules") or (), policy, attempt, cluster.registry) is not None:
        return None
    rules = match.get("resourceRules") or ()
    return matched(rules, policy, attempt, cluster.registry) if rules else attempt.rt


async def prepared(
    cluster: Cluster, attempt: Attempt, meeting: Meeting, obj: JsonObject | None
) -> Facts | None:
    """What the expressions of a policy see; None when its conditions do not take the request. Raises CelError."""
    old = await in_version(cluster, attempt, meeting.rt, attempt.old)
    about = facts(cluster, attempt, meeting.rt, obj, old)
    about.variables["params"] = meeting.params
    about.variables["namespaceObject"] = _namespace(cluster, attempt)
    about.variables["variables"] = Lazy(dict(_variables(meeting, about)))
    conditions = meeting.spec.get("matchConditions") or ()
    failed = failed_condition(conditions, about, policy=True, params=meeting.has_params, declared=())
    return about if failed is None else None


def _namespace(cluster: Cluster, attempt: Attempt) -> JsonObject | None:
    return namespace_object(cluster, attempt, None) if attempt.rt.namespaced and attempt.namespace else None


def _variables(meeting: Meeting, about: Facts) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each is computed when it is first asked for, and knows those before it."""
    before: list[str] = []
    for one in meeting.spec.get("variables") or ():
        program = compiled(one["expression"], True, meeting.has_params, tuple(before))

        def compute(name: str = one["name"], program: Any = program) -> Any:
            try:
                return about.compute(program)
            except CelError as wrong:
                raise CelError(f"composited variable {name!r} fails to evaluate: {wrong}") from None

        yield one["name"], compute
        before.append(one["name"])


# Validating


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A validation that does not hold, or could not be evaluated."""

    message: str
    reason: str = ""
    index: int = 0


@dataclass(slots=True)
class Findings:
    """What all policies have found about one request."""

    denied: list[tuple[Meeting, Finding]] = field(default_factory=list)
    failures: list[JsonObject] = field(default_factory=list)
    annotations: dict[str, list[str]] = field(default_factory=dict)


class ValidatingPolicies:
    """A validator of admission."""

    async def validate(self, cluster: Cluster, attempt: Attempt, obj: JsonObject | None) -> None:
        found = Findings()
        plurals = ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
        for meeting in policies_for(cluster, attempt, obj, *plurals):
            await self._judge(cluster, attempt, meeting, obj, found)
        for key, values in found.annotations.items():
            attempt.notes.audit[key] = ", ".join(dict.fromkeys(values))
        if found.failures:
            key = "validation.policy.admission.k8s.io/validation_failure"
            attempt.notes.audit[key] = orjson.dumps(found.failures).decode()
        if found.denied:
            raise _denial(attempt, obj, *found.denied[0])

    async def _judge(
        self, cluster: Cluster, attempt: Attempt, meeting: Meeting, obj: JsonObject | None, found: Findings
    ) -> None:
        if meeting.problem:
            if not meeting.fails_open:
                found.denied.append((meeting, Finding(message=meeting.problem)))
            return
        try:
            shown = await in_version(cluster, attempt, meeting.rt, obj)
            about = await prepared(cluster, attempt, meeting, shown)
        except (CelError, CelSyntax) as wrong:
            problems = [] if meeting.fails_open else [Finding(message=str(wrong))]
            about = None
        else:
            if about is None:
                return
            problems = list(_broken(meeting, about))
            _annotate(meeting, about, found, problems)
        for problem in problems:
            _act(attempt, meeting, problem, found)


def _broken(meeting: Meeting, about: Facts) -> Iterator[Finding]:
    for at, one in enumerate(meeting.spec.get("validations") or ()):
        try:
            holds = about.compute(meeting.expression(one["expression"].strip()))
        except (CelError, CelSyntax) as wrong:
            if not meeting.fails_open:
                yield Finding(message=str(wrong), index=at)
            continue
        if holds is not True:
            yield Finding(
                message=_message(meeting, one, about), reason=one.get("reason") or "Invalid", index=at
            )


def _message(meeting: Meeting, validation: JsonObject, about: Facts) -> str:
    said = ""
    if validation.get("messageExpression"):
        try:
            made = about.compute(meeting.expression(validation["messageExpression"]))
            said = made.strip() if isinstance(made, str) else ""
        except (CelError, CelSyntax):
            said = ""
        if "\n" in said or len(said.encode()) > _MOST_MESSAGE:
            said = ""
    said = said or (validation.get("message") or "").strip()
    return said or f"failed expression: {validation['expression'].strip()}"


def _annotate(meeting: Meeting, about: Facts, found: Findings, problems: list[Finding]) -> None:
    name, _ = meeting.names
    for one in meeting.spec.get("auditAnnotations") or ():
        try:
            made = about.compute(meeting.expression(one["valueExpression"]))
        except (CelError, CelSyntax) as wrong:
            if not meeting.fails_open:
                problems.append(Finding(message=str(wrong)))
            continue
        if isinstance(made, str) and made:
            found.annotations.setdefault(f"{name}/{one['key']}", []).append(made)


def _act(attempt: Attempt, meeting: Meeting, problem: Finding, found: Findings) -> None:
    """What the binding wants done about it."""
    name, binding = meeting.names
    actions = (meeting.binding or {}).get("spec", {}).get("validationActions") or []
    if "Deny" in actions:
        found.denied.append((meeting, problem))
    if "Audit" in actions:
        found.failures.append(
            {
                "message": problem.message,
                "policy": name,
                "binding": binding,
                "expressionIndex": problem.index,
                "validationActions": actions,
            }
        )
    if "Warn" in actions:
        attempt.notes.warnings.append(
            f"Validation failed for ValidatingAdmissionPolicy '{name}' with binding '{binding}': {problem.message}"
        )


def _denial(attempt: Attempt, obj: JsonObject | None, meeting: Meeting, problem: Finding) -> StatusError:
    name, binding = meeting.names
    by = f"ValidatingAdmissionPolicy '{name}'"
    if meeting.binding is not None:
        by += f" with binding '{binding}'"
    return refusal(attempt, obj, f"{by} denied request: {problem.message}", problem.reason)


def refusal(attempt: Attempt, obj: JsonObject | None, message: str, reason: str = "") -> StatusError:
    """The answer to what a policy denies."""
    meta = (obj or {}).get("metadata") or {}
    name = attempt.name or meta.get("name") or meta.get("generateName") or ""
    error = errors.forbidden(attempt.rt.group_resource, name, message)
    reason = reason or "Invalid"
    details = {**(error.details or {}), "causes": [{"message": message}]}
    return replace(error, code=_CODES.get(reason, 422), reason=reason, details=details)
