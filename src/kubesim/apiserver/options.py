"""The options of writes, in the query and, for deletions, in the body; checked in the real server's words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kubesim import errors
from kubesim.apiserver.bodies import read_body
from kubesim.apiserver.requests import ApiRequest, JsonObject, Query
from kubesim.errors import FieldError
from kubesim.schema.decode import SCHEME

_VALIDATION = ("Ignore", "Warn", "Strict")
_POLICIES = ("Foreground", "Background", "Orphan")
MANAGER_LIMIT = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    dry_run: bool
    validation: str
    manager: str
    force: bool = False
    document: JsonObject = field(default_factory=dict)
    """The options as admission shows them."""


def write_options(request: ApiRequest, kind: str, *, apply: bool = False) -> WriteOptions:
    """`kind` is CreateOptions, UpdateOptions or PatchOptions. Raises StatusError 422."""
    query = request.query
    problems = _dry_run_problems(query.all("dryRun"))
    manager = query.get("fieldManager")
    if apply and not manager:
        problems.append(errors.required("fieldManager", "is required for apply patch"))
    if len(manager) > MANAGER_LIMIT:
        problems.append(errors.too_long("fieldManager", MANAGER_LIMIT))
    if not manager.isprintable():
        why = "should only contain printable characters"
        problems.append(errors.invalid_value("fieldManager", manager, why))
    force = _force(query, kind, apply, problems)
    validation = query.get("fieldValidation")
    if validation not in ("", *_VALIDATION):
        problems.append(errors.not_supported("fieldValidation", validation, ("", *sorted(_VALIDATION))))
    if problems:
        raise errors.invalid(f"{kind}.meta.k8s.io", "", problems)
    return WriteOptions(
        dry_run=query.has("dryRun"),
        validation=validation or "Warn",
        manager=request.field_manager,
        force=force,
        document=_document(query, kind, force=force),
    )


def _document(query: Query, kind: str, *, force: bool) -> JsonObject:
    document: JsonObject = {"kind": kind, "apiVersion": "meta.k8s.io/v1"}
    if query.has("dryRun"):
        document["dryRun"] = query.all("dryRun")
    if force:
        document["force"] = True
    for name in ("fieldManager", "fieldValidation"):
        if query.get(name):
            document[name] = query.get(name)
    return document


def _force(query: Query, kind: str, apply: bool, problems: list[FieldError]) -> bool:
    if query.has("force") and kind == "PatchOptions" and not apply:
        problems.append(errors.forbidden_field("force", "may not be specified for non-apply patch"))
    return query.flag("force")


def _dry_run_problems(values: list[str]) -> list[FieldError]:
    if all(value == "All" for value in values):
        return []
    return [errors.not_supported("dryRun", values, ("All",))]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    dry_run: bool = False
    grace: int | None = None
    policy: str | None = None
    uid: str | None = None
    version: str | None = None
    document: JsonObject = field(
        default_factory=lambda: {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}
    )
    """The options as admission shows them."""

    def now(self) -> DeleteOptions:
        return replace(self, grace=0)


def delete_options(request: ApiRequest) -> DeleteOptions:
    """From the body if there is one, else from the query. Raises StatusError 400, 415 or 422."""
    document = _delete_document(request)
    if document is None:
        document = _from_query(request.query)
    return read_delete_options(document)


def _delete_document(request: ApiRequest) -> JsonObject | None:
    if not request.body:
        return None
    document = read_body(request, "DeleteOptions").value
    kind = document.get("kind", "DeleteOptions")
    version = document.get("apiVersion", "v1")
    if kind != "DeleteOptions":
        raise errors.bad_request(
            f'no kind "{kind}" is registered for version "{version}" in scheme "{SCHEME}"'
        )
    return document


def _from_query(query: Query) -> JsonObject:
    document: JsonObject = {}
    if query.get("gracePeriodSeconds"):
        text = query.get("gracePeriodSeconds")
        try:
            document["gracePeriodSeconds"] = int(text)
        except ValueError:
            quoted = errors.quoted(text)
            raise errors.bad_request(f"strconv.ParseInt: parsing {quoted}: invalid syntax") from None
    if query.get("propagationPolicy"):
        document["propagationPolicy"] = query.get("propagationPolicy")
    if query.has("orphanDependents"):
        document["orphanDependents"] = query.flag("orphanDependents")
    if query.has("dryRun"):
        document["dryRun"] = query.all("dryRun")
    return document


@dataclass(slots=True)
class _Checked:
    document: JsonObject
    problems: list[FieldError] = field(default_factory=list)

    def policy(self) -> str | None:
        policy, orphan = self.document.get("propagationPolicy"), self.document.get("orphanDependents")
        path = "propagationPolicy"
        if policy is not None and orphan is not None:
            why = "orphanDependents and deletionPropagation cannot be both set"
            self.problems.append(errors.invalid_value(path, policy, why))
        elif policy is not None and policy not in _POLICIES:
            self.problems.append(errors.not_supported(path, policy, (*_POLICIES, "nil")))
        if policy is None and orphan is not None:
            return "Orphan" if orphan else "Background"
        return policy

    def dry_run(self) -> bool:
        values = self.document.get("dryRun") or []
        self.problems += _dry_run_problems(values)
        return bool(values)


def read_delete_options(document: JsonObject) -> DeleteOptions:
    checked = _Checked(document)
    policy, dry_run = checked.policy(), checked.dry_run()
    if checked.problems:
        raise errors.invalid("DeleteOptions.meta.k8s.io", "", checked.problems)
    conditions = document.get("preconditions") or {}
    return DeleteOptions(
        dry_run=dry_run,
        grace=document.get("gracePeriodSeconds"),
        policy=policy,
        uid=conditions.get("uid"),
        version=conditions.get("resourceVersion"),
        document={**document, "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"},
    )
