"""What the API says when it refuses: Kubernetes' own words, which clients parse.

    StatusError             an answer of kind Status; the constructors below are the only way to make one
    FieldError              one problem with one field: a cause of `invalid`

client-go decides by `code`, `reason` and `details.causes`, people read `message`, and tests of Kubernetes tools
compare all of them: nothing here is a matter of taste. This module knows no resource and no request; who raises
an error names the resource as Kubernetes writes it (`pods`, `deployments.apps`). Errors of kubesim itself, of its
clusters and of its command line, are not API answers and are not here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

JsonObject = dict[str, Any]

REQUIRED = "FieldValueRequired"
INVALID = "FieldValueInvalid"
NOT_SUPPORTED = "FieldValueNotSupported"
FORBIDDEN = "FieldValueForbidden"
DUPLICATE = "FieldValueDuplicate"
NOT_FOUND = "FieldValueNotFound"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
TYPE_INVALID = "FieldValueTypeInvalid"
INTERNAL = "InternalError"

_TITLES = {
    REQUIRED: "Required value",
    INVALID: "Invalid value",
    NOT_SUPPORTED: "Unsupported value",
    FORBIDDEN: "Forbidden",
    DUPLICATE: "Duplicate value",
    NOT_FOUND: "Not found",
    TOO_LONG: "Too long",
    TOO_MANY: "Too many",
    TYPE_INVALID: "Invalid value",
    INTERNAL: "Internal error",
}


class Omitted:
    """In place of a value that is too big to be shown."""


OMITTED = Omitted()
_WITHOUT_VALUE = {REQUIRED, FORBIDDEN, TOO_LONG, INTERNAL, TOO_MANY}


def quoted(value: str) -> str:
    """A string as Go's %q writes it."""
    return json.dumps(value, ensure_ascii=False)


def shown(value: object) -> str:
    """A value as field errors print it: strings quoted, the rest as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class FieldError:
    """One problem with one field; prints as Kubernetes' field.Error does."""

    type: str
    field: str
    detail: str = ""
    value: Any = None

    @property
    def message(self) -> str:
        """Without the field: what a Status cause carries."""
        title = _TITLES[self.type]
        hidden = self.type in _WITHOUT_VALUE or self.value is OMITTED
        text = title if hidden else f"{title}: {shown(self.value)}"
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"

    def cause(self) -> JsonObject:
        return {"reason": self.type, "message": self.message, "field": self.field}


def required(path: str, detail: str = "") -> FieldError:
    return FieldError(REQUIRED, path, detail)


def invalid_value(path: str, value: object, detail: str) -> FieldError:
    return FieldError(INVALID, path, detail, value)


def not_supported(path: str, value: object, supported: Iterable[str]) -> FieldError:
    listed = ", ".join(quoted(one) for one in supported)
    return FieldError(NOT_SUPPORTED, path, f"supported values: {listed}" if listed else "", value)


def forbidden_field(path: str, detail: str) -> FieldError:
    return FieldError(FORBIDDEN, path, detail)


def duplicate(path: str, value: object) -> FieldError:
    return FieldError(DUPLICATE, path, "", value)


def value_not_found(path: str, value: object) -> FieldError:
    return FieldError(NOT_FOUND, path, "", value)


def too_long(path: str, limit: int) -> FieldError:
    return FieldError(TOO_LONG, path, f"may not be more than {limit} bytes")


def too_many(path: str, actual: int, limit: int) -> FieldError:
    return FieldError(TOO_MANY, path, f"{actual}: must have at most {limit} items")


@dataclass(eq=False)
class StatusError(Exception):
    """An answer of kind Status, with its HTTP code and headers."""

    code: int
    reason: str
    message: str
    details: JsonObject | None = None
    headers: dict[str, str] = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def to_status(self) -> JsonObject:
        """The body of the answer."""
        status: JsonObject = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


def _details(group_resource: str, name: str = "", uid: str = "") -> JsonObject:
    """`deployments.apps` and a name as StatusDetails; empty members are left out."""
    kind, _, group = group_resource.partition(".")
    details: JsonObject = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    if uid:
        details["uid"] = uid
    return details


def success(group_resource: str, name: str, uid: str) -> JsonObject:
    """The Status that answers a DELETE."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": _details(group_resource, name, uid),
    }


def not_found(group_resource: str, name: str) -> StatusError:
    details = _details(group_resource, name)
    return StatusError(404, "NotFound", f"{group_resource} {quoted(name)} not found", details)


def no_such_path() -> StatusError:
    """404 for a resource that the group does not have."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(group_resource: str, name: str) -> StatusError:
    details = _details(group_resource, name)
    return StatusError(409, "AlreadyExists", f"{group_resource} {quoted(name)} already exists", details)


def generated_name_conflict(group_resource: str, name: str) -> StatusError:
    """All tries of a generateName were taken."""
    details = _details(group_resource, name)
    why = "the server was not able to generate a unique name for the object"
    text = f"{group_resource} {quoted(name)} already exists, {why}"
    return StatusError(409, "AlreadyExists", text, {**details, "retryAfterSeconds": 1}, {"Retry-After": "1"})


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(group_resource: str, name: str, why: str = MODIFIED) -> StatusError:
    text = f"Operation cannot be fulfilled on {group_resource} {quoted(name)}: {why}"
    return StatusError(409, "Conflict", text, _details(group_resource, name))


def apply_conflict(causes: Sequence[JsonObject], message: str) -> StatusError:
    return StatusError(409, "Conflict", message, {"causes": list(causes)})


def invalid(group_kind: str, name: str, errors: Sequence[FieldError]) -> StatusError:
    """422 with one cause per problem; `group_kind` as `Deployment.apps`."""
    details = _details(group_kind, name)
    details["causes"] = [error.cause() for error in errors]
    texts = list(dict.fromkeys(str(error) for error in errors))
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    message = f"{group_kind} {quoted(name)} is invalid" + (f": {text}" if texts else "")
    return StatusError(422, "Invalid", message, details)


def invalid_patch(document: str, why: str) -> StatusError:
    """The patched object cannot be decoded; the cause is named `patch`."""
    return invalid("", "", [invalid_value("patch", document, why)])


def unprocessable() -> StatusError:
    """What every JSON patch that cannot be applied gets, whatever is wrong with it."""
    return StatusError(422, "Invalid", "the server rejected our request due to an error in our request", {})


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(group_resource: str, name: str, why: str) -> StatusError:
    if not group_resource:
        text = f"forbidden: {why}"
    elif name:
        text = f"{group_resource} {quoted(name)} is forbidden: {why}"
    else:
        text = f"{group_resource} is forbidden: {why}"
    return StatusError(403, "Forbidden", text, _details(group_resource, name))


def gone(message: str = "The resourceVersion for the provided watch is too old.") -> StatusError:
    """410: the history that a watch or a page asks for is compacted."""
    return StatusError(410, "Expired", message)


def method_not_allowed() -> StatusError:
    text = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", text, {})


def terminating(group_resource: str, verb: str) -> StatusError:
    """405 for what a custom resource does not take any more."""
    text = f"{verb} not allowed while custom resource definition is terminating"
    return StatusError(405, "MethodNotAllowed", text, _details(group_resource))


MEDIA_TYPES = ("application/json", "application/yaml")


def not_acceptable(message: str) -> StatusError:
    return StatusError(406, "NotAcceptable", message)


def unsupported_media(accepted: Iterable[str] = MEDIA_TYPES) -> StatusError:
    text = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return StatusError(415, "UnsupportedMediaType", text)


def unsupported_patch() -> StatusError:
    """A PATCH whose Content-Type is no kind of patch."""
    return StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})


def too_large(limit: int) -> StatusError:
    text = f"Request entity too large: limit is {limit}"
    return StatusError(413, "RequestEntityTooLarge", text)


def timeout(message: str, retry_after: int = 0, causes: Sequence[Mapping[str, str]] = ()) -> StatusError:
    details: JsonObject = {}
    if causes:
        details["causes"] = [dict(cause) for cause in causes]
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    return StatusError(504, "Timeout", message, details, headers)


def too_many_requests(
    message: str, retry_after: int = 0, causes: Sequence[Mapping[str, str]] = ()
) -> StatusError:
    details: JsonObject = {}
    if causes:
        details["causes"] = [dict(cause) for cause in causes]
    if retry_after:
        details["retryAfterSeconds"] = retry_after
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    return StatusError(429, "TooManyRequests", message, details or None, headers)


def internal(message: str) -> StatusError:
    """500 with reason InternalError: something inside failed."""
    details = {"causes": [{"message": message}]}
    return StatusError(500, "InternalError", f"Internal error occurred: {message}", details)


def unclassified(message: str) -> StatusError:
    """500 without a reason: what the real server answers where its code forgot to classify a client's mistake."""
    return StatusError(500, "", message)


def unavailable(message: str, retry_after: int = 1) -> StatusError:
    headers = {"Retry-After": str(retry_after)} if retry_after else {}
    details = {"retryAfterSeconds": retry_after} if retry_after else None
    return StatusError(503, "ServiceUnavailable", message, details, headers)
