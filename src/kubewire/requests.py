"""Kubernetes calls as plain data: one pure function per verb builds the `Request`, `check_response` reads the answer.

Nothing is sent here; that is a `Transport`. Nothing is decided about time either; that is the `Client`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from kubewire.errors import ApiError, Unreachable, api_error
from kubewire.resources import PODS, Resource

JsonObject = dict[str, Any]
JsonPatch = list[dict[str, Any]]
Query = tuple[tuple[str, str], ...]

_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call. `path` is percent-encoded as on the wire; `body` is never shown in a `repr`."""

    method: str
    path: str
    query: Query = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)

    @property
    def target(self) -> str:
        """Path and query as one string."""
        return f"{self.path}?{urlencode(self.query, quote_via=quote)}" if self.query else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One complete answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    endpoint: str = "the API server"  # who answered, for messages

    def json(self) -> JsonObject:
        """The body as a JSON object; anything else did not come from a Kubernetes API server."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise Unreachable(self.endpoint, "protocol", detail=f"the answer is not JSON ({error})") from None
        if not isinstance(value, dict):
            raise Unreachable(self.endpoint, "protocol", detail="the answer is not a JSON object")
        return value


class PatchType(StrEnum):
    """The ways to patch; the value is the content type."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


def get(
    resource: Resource, name: str, namespace: str | None = None, *, subresource: str | None = None
) -> Request:
    """Read one object."""
    return _read(resource.path(namespace, name, subresource))


def list_(
    resource: Resource,
    namespace: str | None = None,
    *,
    label_selector: str | None = None,
    field_selector: str | None = None,
    limit: int | None = None,
    continue_: str | None = None,
    resource_version: str | None = None,
) -> Request:
    """Read one page of a collection."""
    query = _query(
        labelSelector=label_selector,
        fieldSelector=field_selector,
        limit=limit,
        # a continue token stands for its own resource version; both together are refused
        resourceVersion=None if continue_ else resource_version,
        **{"continue": continue_},
    )
    return _read(resource.path(namespace), query)


def watch(
    resource: Resource,
    namespace: str | None = None,
    *,
    label_selector: str | None = None,
    field_selector: str | None = None,
    resource_version: str | None = None,
    bookmarks: bool = True,
    timeout_seconds: float | None = None,
) -> Request:
    """Follow a collection from a resource version on."""
    query = _query(
        watch=True,
        labelSelector=label_selector,
        fieldSelector=field_selector,
        resourceVersion=resource_version,
        allowWatchBookmarks=bookmarks or None,
        timeoutSeconds=None if timeout_seconds is None else max(1, round(timeout_seconds)),
    )
    return _read(resource.path(namespace), query)


def create(
    resource: Resource,
    obj: JsonObject,
    namespace: str | None = None,
    *,
    name: str | None = None,
    subresource: str | None = None,
    field_manager: str | None = None,
    dry_run: bool = False,
) -> Request:
    """Create an object, or post to a subresource of one (binding, eviction, token)."""
    namespace = _namespace(resource, obj, namespace)
    path = resource.path(namespace, name if subresource else None, subresource)
    if resource.namespaced and namespace is None:
        raise ValueError(f"a {resource.kind} needs a namespace")
    body = obj if subresource else _typed(resource, obj)
    return _write("POST", path, body, _query(fieldManager=field_manager, dryRun="All" if dry_run else None))


def replace(
    resource: Resource,
    obj: JsonObject,
    namespace: str | None = None,
    *,
    subresource: str | None = None,
    field_manager: str | None = None,
) -> Request:
    """Replace an object; its metadata has the name and, for a guarded write, the resource version."""
    path = resource.path(_namespace(resource, obj, namespace), _name(obj), subresource)
    return _write("PUT", path, _typed(resource, obj), _query(fieldManager=field_manager))


def patch(
    resource: Resource,
    name: str,
    change: JsonObject | JsonPatch,
    namespace: str | None = None,
    *,
    type: PatchType = PatchType.MERGE,
    subresource: str | None = None,
    field_manager: str | None = None,
    force: bool = False,
) -> Request:
    """Change a part of an object."""
    query = _query(fieldManager=field_manager, force=force or None)
    return _write("PATCH", resource.path(namespace, name, subresource), change, query, type.value)


def apply(
    resource: Resource,
    obj: JsonObject,
    namespace: str | None = None,
    *,
    field_manager: str,
    force: bool = False,
    subresource: str | None = None,
) -> Request:
    """Server-side apply."""
    return patch(
        resource,
        _name(obj),
        _typed(resource, obj),
        _namespace(resource, obj, namespace),
        type=PatchType.APPLY,
        subresource=subresource,
        field_manager=field_manager,
        force=force,
    )


def delete(
    resource: Resource,
    name: str,
    namespace: str | None = None,
    *,
    grace_period: int | None = None,
    propagation: str | None = None,
    uid: str | None = None,
    resource_version: str | None = None,
) -> Request:
    """Delete one object, on the condition that it is still the one that was meant."""
    options: JsonObject = {"kind": "DeleteOptions", "apiVersion": "v1"}
    if grace_period is not None:
        options["gracePeriodSeconds"] = grace_period
    if propagation is not None:
        options["propagationPolicy"] = propagation
    conditions = {key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
    if conditions:
        options["preconditions"] = conditions
    return _write("DELETE", resource.path(namespace, name), options)


def delete_collection(
    resource: Resource,
    namespace: str | None = None,
    *,
    label_selector: str | None = None,
    field_selector: str | None = None,
) -> Request:
    """Delete all that the selectors match, in one namespace (never over all namespaces)."""
    if resource.namespaced and namespace is None:
        raise ValueError(f"deleting a collection of {resource.plural} needs a namespace")
    query = _query(labelSelector=label_selector, fieldSelector=field_selector)
    return Request(method="DELETE", path=resource.path(namespace), query=query, headers={"accept": _JSON})


def logs(
    name: str,
    namespace: str,
    *,
    container: str | None = None,
    follow: bool = False,
    tail_lines: int | None = None,
    since_seconds: int | None = None,
    timestamps: bool = False,
    previous: bool = False,
) -> Request:
    """Read what a container printed."""
    query = _query(
        container=container,
        follow=follow or None,
        tailLines=tail_lines,
        sinceSeconds=since_seconds,
        timestamps=timestamps or None,
        previous=previous or None,
    )
    return dataclasses.replace(_read(PODS.path(namespace, name, "log"), query), headers={"accept": "*/*"})


def exec_(
    name: str,
    namespace: str,
    argv: Sequence[str],
    *,
    container: str | None = None,
    stdin: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    tty: bool = False,
) -> Request:
    """Run a command in a container; to be opened as a channel."""
    if not argv:
        raise ValueError("exec needs a command")
    query = tuple(("command", word) for word in argv) + _streams(container, stdin, stdout, stderr, tty)
    return Request(method="GET", path=PODS.path(namespace, name, "exec"), query=query)


def attach(
    name: str,
    namespace: str,
    *,
    container: str | None = None,
    stdin: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    tty: bool = False,
) -> Request:
    """Attach to a container's main process; to be opened as a channel."""
    query = _streams(container, stdin, stdout, stderr, tty)
    return Request(method="GET", path=PODS.path(namespace, name, "attach"), query=query)


def port_forward(name: str, namespace: str, port: int) -> Request:
    """Connect to a port of a pod; to be opened as a channel."""
    return Request(
        method="GET", path=PODS.path(namespace, name, "portforward"), query=(("ports", str(port)),)
    )


def version() -> Request:
    """The server's version."""
    return _read("/version")


def check_response(response: Response) -> Response:
    """The response itself if it says success; otherwise the error that its Status describes."""
    if 200 <= response.status < 300:
        return response
    retry_after = _retry_after(response.headers.get("retry-after"))
    status: Any = None
    try:
        status = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        pass  # not every error comes from the API server: proxies and load balancers answer in HTML or plain text
    if not (isinstance(status, dict) and status.get("kind") == "Status"):
        text = " ".join(response.body[:2000].decode("utf-8", "replace").split())[:300]
        if 300 <= response.status < 400:
            where = response.headers.get("location", "an unnamed place")
            raise Unreachable(response.endpoint, "protocol", detail=f"it redirects to {where}")
        raise api_error(
            response.status, "", f"{response.endpoint} answered {response.status}: {text}", {}, retry_after
        )
    raise status_error(status, response.status, retry_after)


def status_error(status: JsonObject, code: int = 500, retry_after: float | None = None) -> ApiError:
    """The error for a Kubernetes Status object."""
    details = status.get("details")
    details = details if isinstance(details, dict) else {}
    seconds = details.get("retryAfterSeconds")
    if retry_after is None and isinstance(seconds, int) and seconds > 0:
        retry_after = float(seconds)
    claimed = status.get("code")
    code = claimed if isinstance(claimed, int) and claimed >= 400 else code
    return api_error(
        code, str(status.get("reason") or ""), str(status.get("message") or ""), details, retry_after
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


def _read(path: str, query: Query = ()) -> Request:
    return Request(method="GET", path=path, query=query, headers={"accept": _JSON})


def _write(method: str, path: str, body: Any, query: Query = (), content_type: str = _JSON) -> Request:
    headers = {"accept": _JSON, "content-type": content_type}
    return Request(method=method, path=path, query=query, headers=headers, body=orjson.dumps(body))


def _query(**values: str | int | bool | None) -> Query:
    """The parameters that are set; an empty string is one that is not."""
    return tuple(
        (key, ("true" if value else "false") if isinstance(value, bool) else str(value))
        for key, value in values.items()
        if value is not None and value != ""
    )


def _streams(container: str | None, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Query:
    # a terminal has one output; asking for its stderr is refused by the kubelet
    return _query(container=container, stdin=stdin, stdout=stdout, stderr=stderr and not tty, tty=tty)


def _typed(resource: Resource, obj: JsonObject) -> JsonObject:
    """The object with its type on it, which objects out of a list lack."""
    if "kind" in obj and "apiVersion" in obj:
        return obj
    return {"apiVersion": resource.api_version, "kind": resource.kind, **obj}


def _name(obj: JsonObject) -> str:
    name = obj.get("metadata", {}).get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("the object has no metadata.name")
    return name


def _namespace(resource: Resource, obj: JsonObject, namespace: str | None) -> str | None:
    if not resource.namespaced:
        return None
    return namespace or obj.get("metadata", {}).get("namespace")
