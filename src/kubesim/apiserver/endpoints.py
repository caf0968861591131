"""What is not a resource: health, version, discovery, OpenAPI, metrics.

The documents of discovery and OpenAPI are made by their own modules; here they are found by path and
negotiated.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from kubesim import errors
from kubesim.apiserver import discovery, metrics, openapi
from kubesim.apiserver.negotiation import parse_accept, wanted
from kubesim.apiserver.rendering import document
from kubesim.apiserver.requests import JSON, ApiRequest, Reply, text_reply
from kubesim.apiserver.routing import Route
from kubesim.schema.registry import Registry, ResourceType

if TYPE_CHECKING:
    from kubesim.apiserver.app import ApiServer

MAJOR, MINOR, VERSION = "1", "36", "v1.36.2"
_HEALTH = ("/healthz", "/livez", "/readyz")
_CHECKS = ("ping", "log", "etcd", "poststarthook/start-apiextensions-controllers")
_AGGREGATED = "APIGroupDiscoveryList"
_PROTO = "com.github.proto-openapi.spec.v2"


def answer(api: ApiServer, request: ApiRequest, route: Route | None) -> Reply:
    """Raises StatusError."""
    path = request.path
    if any(path == prefix or path.startswith(prefix + "/") for prefix in _HEALTH):
        return _health(api, request)
    if path in ("/version", "/version/"):
        _only_get(request)
        return document(version(), wanted(request.headers.get("accept", "")))
    if path == "/metrics":
        _only_get(request)
        return text_reply(metrics.text(api))
    if path.startswith("/openapi/"):
        _only_get(request)
        return _openapi(api, request)
    if path == "/api" or path.startswith("/api/") or path == "/apis" or path.startswith("/apis/"):
        _only_get(request)
        return _discovery(api.registry, request, route)
    if path == "/":
        return document({"paths": _paths(api.registry)}, wanted(request.headers.get("accept", "")))
    return page_not_found()


def page_not_found() -> Reply:
    return text_reply("404 page not found\n", 404)


def no_such_resource(registry: Registry, route: Route, rt: ResourceType | None = None) -> Reply:
    """404 for a path below a group: groups of custom resources are not known to answer in JSON."""
    known = not route.group or any(t.group == route.group and not t.custom for t in registry.all())
    if not known or (rt is not None and rt.custom):
        return page_not_found()
    raise errors.no_such_path()


def version() -> dict[str, Any]:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": str(int(MINOR) - 1),
        "gitVersion": f"{VERSION}+kubesim",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "go1.26.0",
        "compiler": "gc",
        "platform": f"linux/{machine}",
    }


def _only_get(request: ApiRequest) -> None:
    if request.method not in ("GET", "HEAD"):
        raise errors.method_not_allowed()


def _health(api: ApiServer, request: ApiRequest) -> Reply:
    _only_get(request)
    prefix = "/" + request.path.split("/")[1]
    check = request.path[len(prefix) :].strip("/")
    if check and check not in _CHECKS and not (prefix == "/readyz" and check == "shutdown"):
        return page_not_found()
    failing = prefix == "/readyz" and not api.ready
    if failing:
        lines = [f"[+]{name} ok" for name in _CHECKS[:3]] + ["[-]shutdown failed: reason withheld"]
        return text_reply("\n".join([*lines, "readyz check failed", ""]), 500)
    if request.query.has("verbose"):
        lines = [f"[+]{name} ok" for name in _CHECKS]
        return text_reply("\n".join([*lines, f"{prefix[1:]} check passed", ""]))
    return text_reply("ok")


def _discovery(registry: Registry, request: ApiRequest, route: Route | None) -> Reply:
    accept = request.headers.get("accept", "")
    path = request.path.rstrip("/")  # a final slash is no difference here; kr8s writes one
    if path in ("/api", "/apis"):
        asked = _aggregated(accept)
        if asked is not None:
            documents = discovery.aggregated(registry, core=path == "/api", version=asked)
            reply = document(documents, wanted("*/*"))
            reply.content_type = f"{JSON};g=apidiscovery.k8s.io;v={asked};as={_AGGREGATED}"
            reply.headers.append(("Vary", "Accept"))
            return reply
        made = (
            discovery.api_versions(request.headers.get("host", ""))
            if path == "/api"
            else discovery.api_groups(registry)
        )
        reply = document(made, wanted(accept, forms=False))
        reply.headers.append(("Vary", "Accept"))
        return reply
    if route is None:
        group = discovery.api_group(registry, path.removeprefix("/apis/"))
        return document(group, wanted(accept, forms=False)) if group is not None else page_not_found()
    resources = discovery.resource_list(registry, route.group, route.version)
    if resources is None:
        return no_such_resource(registry, route)
    return document(resources, wanted(accept, forms=False))


def _aggregated(accept: str) -> str | None:
    """The version of aggregated discovery that the client can read: it wins wherever it stands in the
    header."""
    for clause in parse_accept(accept):
        if clause.param("as") == _AGGREGATED and clause.param("g") == "apidiscovery.k8s.io":
            version = clause.param("v")
            if version in ("v2", "v2beta1"):
                return version
    return None


def _openapi(api: ApiServer, request: ApiRequest) -> Reply:
    if request.path == "/openapi/v2" and _PROTO in request.headers.get("accept", ""):
        # kubectl asks for this form of version 2, and no other, when version 3 does not know a kind; what it
        # then
        # needs to hear is that version 2 does not know it either.
        return Reply(parts=(b"\x0a\x032.0",), content_type=f"application/{_PROTO}.v1.0+protobuf")
    made = openapi.answer(api.registry, request.path, request.headers.get("accept", ""))
    if made is None:
        return page_not_found()
    content_type, body = made
    return Reply(parts=(body,), content_type=content_type)


def _paths(registry: Registry) -> list[str]:
    groups = [f"/apis/{group}" for group in registry.groups()]
    versions = [f"/apis/{t.group}/{t.version}" for t in registry.all() if t.group]
    fixed = ["/api", "/api/v1", "/apis", *_HEALTH, "/metrics", "/openapi/v2", "/openapi/v3", "/version"]
    return sorted({*fixed, *groups, *versions})
