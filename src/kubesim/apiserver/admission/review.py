"""AdmissionReview: the question to a webhook, and what its answer has to look like. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

import orjson

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt
from kubesim.apiserver.admission.matching import namespace_of
from kubesim.apiserver.auth import user_info
from kubesim.apiserver.patch.jsonpatch import Copies, json_patch
from kubesim.apiserver.requests import JsonObject
from kubesim.errors import StatusError, quoted
from kubesim.schema.registry import ResourceType

VERSIONS = ("v1", "v1beta1")
_JSON_PATCH = "JSONPatch"


class Unusable(Exception):
    """The answer of a webhook that is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a webhook has said."""

    allowed: bool
    result: JsonObject | None = None
    patch: bytes = b""
    patch_type: str = ""
    warnings: list[str] = field(default_factory=list)
    annotations: JsonObject = field(default_factory=dict)


def request_of(
    attempt: Attempt, rt: ResourceType, obj: JsonObject | None, old: JsonObject | None, uid: str
) -> JsonObject:
    """What is asked, about an object in the version of `rt`; also the `request` of expressions in CEL."""
    kind, resource = _kind(attempt, rt), _resource(rt)
    request: JsonObject = {"uid": uid, "kind": kind, "resource": resource}
    if attempt.subresource:
        request["subResource"] = attempt.subresource
    request["requestKind"] = _kind(attempt, attempt.rt)
    request["requestResource"] = _resource(attempt.rt)
    if attempt.subresource:
        request["requestSubResource"] = attempt.subresource
    if attempt.name and not (attempt.name_generated and not shows_name(obj)):
        request["name"] = attempt.name
    namespace = namespace_of(attempt)
    if namespace:
        request["namespace"] = namespace
    return request | {
        "operation": attempt.operation,
        "userInfo": user_info(attempt.user),
        "object": obj,
        "oldObject": old,
        "dryRun": attempt.dry_run,
        "options": attempt.options,
    }


def shows_name(obj: JsonObject | None) -> bool:
    return bool(obj and (obj.get("metadata") or {}).get("name"))


def _kind(attempt: Attempt, rt: ResourceType) -> JsonObject:
    group, version, kind = attempt.of or (*(rt.kind_group_version or (rt.group, rt.version)), rt.kind)
    return {"group": group, "version": version, "kind": kind}


def _resource(rt: ResourceType) -> JsonObject:
    return {"group": rt.group, "version": rt.version, "resource": rt.plural}


def review(hook: JsonObject, request: JsonObject) -> JsonObject:
    """The AdmissionReview in the first version that the webhook knows. Raises Unusable."""
    for version in hook.get("admissionReviewVersions") or ():
        if version in VERSIONS:
            return {
                "kind": "AdmissionReview",
                "apiVersion": f"admission.k8s.io/{version}",
                "request": request,
            }
    raise Unusable(
        "could not create admission objects: webhook does not accept known AdmissionReview versions"
    )


def verdict(asked: JsonObject, answer: JsonObject, *, mutating: bool) -> Verdict:
    """Raises Unusable."""
    response = answer.get("response")
    try:
        if not isinstance(response, dict):
            raise Unusable("webhook response was absent")
        if asked["apiVersion"].endswith("/v1"):
            _check(asked, answer, response, mutating)
        patch = base64.b64decode(response.get("patch") or "", validate=True) if mutating else b""
    except binascii.Error as wrong:
        raise Unusable(f"received invalid webhook response: illegal base64 data: {wrong}") from None
    except Unusable as wrong:
        raise Unusable(f"received invalid webhook response: {wrong}") from None
    result, annotations = response.get("status"), response.get("auditAnnotations")
    return Verdict(
        allowed=response.get("allowed") is True,
        result=result if isinstance(result, dict) else None,
        patch=patch,
        patch_type=response.get("patchType") or _JSON_PATCH,
        warnings=[one for one in response.get("warnings") or () if isinstance(one, str)],
        annotations=annotations if isinstance(annotations, dict) else {},
    )


def _check(asked: JsonObject, answer: JsonObject, response: JsonObject, mutating: bool) -> None:
    uid = asked["request"]["uid"]
    if response.get("uid") != uid:
        raise Unusable(f"expected response.uid={quoted(uid)}, got {quoted(response.get('uid') or '')}")
    given = (answer.get("apiVersion") or "", answer.get("kind") or "")
    if given != ("admission.k8s.io/v1", "AdmissionReview"):
        wanted = "admission.k8s.io/v1, Kind=AdmissionReview"
        raise Unusable(f"expected webhook response of {wanted}, got {given[0] or '/'}, Kind={given[1]}")
    patch, type_ = response.get("patch"), response.get("patchType")
    if not mutating:
        if patch:
            raise Unusable("validating webhook may not return response.patch")
        if type_ is not None:
            raise Unusable("validating webhook may not return response.patchType")
    elif patch and type_ is None:
        raise Unusable("webhook returned response.patch but not response.patchType")
    elif not patch and type_ is not None:
        raise Unusable("webhook returned response.patchType but not response.patch")
    elif type_ == "":
        raise Unusable('webhook returned invalid response.patchType of ""')


def denied(name: str, result: JsonObject | None) -> StatusError:
    """The refusal of a webhook, as a client gets it."""
    result = result or {}
    by = f"admission webhook {quoted(name)} denied the request"
    code = result.get("code")
    said = result.get("message") or result.get("reason")
    return StatusError(
        code=code if isinstance(code, int) and code >= 400 else 400,
        reason=str(result.get("reason") or ""),
        message=f"{by}: {said}" if said else f"{by} without explanation",
        details=result.get("details"),
        metadata=result.get("metadata") or {},
    )


def patched(document: JsonObject, said: Verdict) -> Any:
    """The object with the webhook's changes. Raises StatusError 500 for a patch that does not fit."""
    try:
        operations = orjson.loads(said.patch)
    except orjson.JSONDecodeError as wrong:
        raise errors.internal(str(wrong)) from None
    if not isinstance(operations, list):
        raise errors.internal("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    return apply_operations(document, operations)


def apply_operations(document: Any, operations: list[Any]) -> Any:
    """Raises StatusError 500 with the operation that does not fit."""
    copies = Copies()
    for operation in operations:
        try:
            document = json_patch(document, [operation], copies)
        except StatusError:
            raise errors.internal(_unfit(operation)) from None
    return document


def _unfit(operation: Any) -> str:
    if not isinstance(operation, dict):
        return "json: cannot unmarshal into Go value of type jsonpatch.Operation"
    op, path = operation.get("op"), str(operation.get("path", ""))
    if op == "test":
        return f"testing value {path} failed: test failed"
    if op in ("add", "replace", "remove", "move", "copy"):
        return f"{op} operation does not apply: doc is missing path: {quoted(path)}: missing value"
    return f"Unexpected kind: {op}"
