"""Which handler answers for a subresource, and for the few resources that are questions and not objects.

Status and everything else that is a view of the object itself has no entry: the ordinary handlers serve it,
and the kind's Strategy knows what may change through it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from kubesim.apiserver import eviction, finalizing, pods, reviews, scale, scheduling, tokens, usage
from kubesim.apiserver.calls import Call
from kubesim.apiserver.channels import Socket
from kubesim.apiserver.core import Core
from kubesim.apiserver.requests import Reply, StreamReply
from kubesim.schema.registry import ResourceType, Subresource

Handler = Callable[[Core, Call], Awaitable[Reply | StreamReply]]
Channel = Callable[[Core, Call, list[str], Socket], Awaitable[None]]

_PODS: dict[str, Handler] = {
    "log": pods.log,
    "exec": pods.refuse_stream,
    "attach": pods.refuse_stream,
    "portforward": pods.refuse_stream,
    "binding": scheduling.bind,
    "eviction": eviction.evict,
}
_CHANNELS: dict[str, Channel] = {
    "exec": pods.exec_,
    "attach": pods.exec_,
    "portforward": pods.port_forward,
}
_SCALE: dict[str, Handler] = {"get": scale.get, "update": scale.update, "patch": scale.patch}
_REVIEWS: dict[str, Handler] = {
    "selfsubjectaccessreviews.authorization.k8s.io": reviews.self_access,
    "subjectaccessreviews.authorization.k8s.io": reviews.subject_access,
    "localsubjectaccessreviews.authorization.k8s.io": reviews.subject_access,
    "selfsubjectrulesreviews.authorization.k8s.io": reviews.self_rules,
    "selfsubjectreviews.authentication.k8s.io": reviews.self_subject,
    "tokenreviews.authentication.k8s.io": reviews.token,
    "bindings": scheduling.bind_by_name,
}


def find(rt: ResourceType, subresource: Subresource, verb: str) -> Handler | None:
    if subresource.name == "scale" and subresource.kind == "Scale":
        return _SCALE.get(verb)
    match rt.group_resource, subresource.name:
        case "pods", name:
            return _PODS.get(name)
        case "namespaces", "finalize":
            return finalizing.finalize
        case "serviceaccounts", "token":
            return tokens.create
    return None


def find_for_resource(rt: ResourceType, verb: str) -> Handler | None:
    """Resources of which nothing is stored: each POST is answered, and forgotten; metrics are made when asked for."""
    if rt.group == usage.GROUP:
        return usage.get if verb == "get" else usage.list_
    return _REVIEWS.get(rt.group_resource) if verb == "create" else None


def find_channel(rt: ResourceType, subresource: str) -> Channel | None:
    return _CHANNELS.get(subresource) if rt.group_resource == "pods" else None
