"""What goes on the wire for each verb, and what an answer means; no server needed."""

import json
from typing import Any

import pytest

from kubewire import requests
from kubewire.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)
from kubewire.requests import PatchType, Request, Response, check_response
from kubewire.resources import DEPLOYMENTS, NODES, PODS, SERVICE_ACCOUNTS, Resource


def body(request: Request) -> Any:
    """The body of a request as JSON."""
    assert request.body is not None
    return json.loads(request.body)


def test_paths_are_those_of_the_api() -> None:
    assert PODS.path("default", "p") == "/api/v1/namespaces/default/pods/p"
    assert PODS.path() == "/api/v1/pods"
    assert NODES.path(name="n", subresource="status") == "/api/v1/nodes/n/status"
    assert DEPLOYMENTS.path("a", "d", "scale") == "/apis/apps/v1/namespaces/a/deployments/d/scale"
    assert Resource("rbac.example", "v1", "things", "Thing", namespaced=False).path(name="system:a b") == (
        "/apis/rbac.example/v1/things/system:a%20b"
    )
    assert DEPLOYMENTS.api_version == "apps/v1"
    assert str(PODS) == "pods"
    assert str(DEPLOYMENTS) == "deployments.apps"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_cannot_leave_its_place_in_the_path(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a name"):
        PODS.path("default", name)
    with pytest.raises(ValueError, match="cannot be a namespace"):
        PODS.path(name, "p")


def test_an_object_needs_its_namespace() -> None:
    with pytest.raises(ValueError, match="needs a namespace"):
        requests.get(PODS, "p")
    with pytest.raises(ValueError, match="needs a namespace"):
        requests.create(PODS, {"metadata": {"name": "p"}})
    with pytest.raises(ValueError, match="needs a namespace"):
        requests.delete_collection(PODS)


def test_the_namespace_of_a_cluster_wide_object_is_ignored() -> None:
    assert requests.create(NODES, {"metadata": {"name": "n"}}, "default").path == "/api/v1/nodes"


def test_a_list_asks_for_a_page() -> None:
    request = requests.list_(
        PODS, "default", label_selector="a=b,c in (d, e)", field_selector="spec.nodeName=n", limit=5
    )
    assert request.target == (
        "/api/v1/namespaces/default/pods"
        "?labelSelector=a%3Db%2Cc%20in%20%28d%2C%20e%29&fieldSelector=spec.nodeName%3Dn&limit=5"
    )


def test_a_continue_token_comes_without_a_resource_version() -> None:
    assert requests.list_(PODS, limit=1, continue_="t", resource_version="7").query == (
        ("limit", "1"),
        ("continue", "t"),
    )
    assert requests.list_(PODS, resource_version="0").query == (("resourceVersion", "0"),)


def test_a_watch_says_where_it_starts_and_when_the_server_shall_end_it() -> None:
    request = requests.watch(PODS, resource_version="7", timeout_seconds=300.0)
    assert dict(request.query) == {
        "watch": "true",
        "resourceVersion": "7",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "300",
    }


def test_what_is_created_carries_its_type() -> None:
    request = requests.create(
        PODS, {"metadata": {"name": "p", "namespace": "a"}}, field_manager="me", dry_run=True
    )
    assert (request.method, request.path) == ("POST", "/api/v1/namespaces/a/pods")
    assert dict(request.query) == {"fieldManager": "me", "dryRun": "All"}
    assert body(request) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "a"},
    }


def test_subresources_are_posted_to_as_they_are() -> None:
    binding = {"kind": "Binding", "target": {"name": "n"}}
    request = requests.create(PODS, binding, "a", name="p", subresource="binding")
    assert request.path == "/api/v1/namespaces/a/pods/p/binding"
    assert body(request) == binding
    assert requests.create(SERVICE_ACCOUNTS, {}, "a", name="s", subresource="token").path.endswith("/s/token")


def test_a_replacement_goes_to_the_object_named_in_it() -> None:
    request = requests.replace(PODS, {"metadata": {"name": "p", "namespace": "a"}}, subresource="status")
    assert (request.method, request.path) == ("PUT", "/api/v1/namespaces/a/pods/p/status")
    with pytest.raises(ValueError, match=r"metadata\.name"):
        requests.replace(PODS, {"metadata": {}}, "a")


@pytest.mark.parametrize("kind", list(PatchType))
def test_the_way_of_patching_is_the_content_type(kind: PatchType) -> None:
    request = requests.patch(PODS, "p", {"a": None}, "a", type=kind)
    assert request.method == "PATCH"
    assert request.headers["content-type"] == kind.value
    assert body(request) == {"a": None}


def test_apply_names_its_manager() -> None:
    request = requests.apply(
        PODS, {"metadata": {"name": "p", "namespace": "a"}}, field_manager="me", force=True
    )
    assert request.headers["content-type"] == "application/apply-patch+yaml"
    assert dict(request.query) == {"fieldManager": "me", "force": "true"}
    assert body(request)["kind"] == "Pod"


def test_a_deletion_may_have_conditions() -> None:
    request = requests.delete(
        PODS, "p", "a", grace_period=0, propagation="Foreground", uid="u", resource_version="7"
    )
    assert body(request) == {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": 0,
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": "u", "resourceVersion": "7"},
    }


def test_a_command_is_one_parameter_per_word() -> None:
    request = requests.exec_("p", "a", ["sh", "-c", "echo $A & b"], container="c", stdin=True, tty=True)
    assert request.query == (
        ("command", "sh"),
        ("command", "-c"),
        ("command", "echo $A & b"),
        ("container", "c"),
        ("stdin", "true"),
        ("stdout", "true"),
        ("stderr", "false"),
        ("tty", "true"),
    )
    assert "command=echo%20%24A%20%26%20b" in request.target
    with pytest.raises(ValueError, match="needs a command"):
        requests.exec_("p", "a", [])


def test_logs_leave_out_what_is_not_asked_for() -> None:
    assert requests.logs("p", "a").target == "/api/v1/namespaces/a/pods/p/log"
    assert dict(requests.logs("p", "a", follow=True, tail_lines=0, previous=True).query) == {
        "follow": "true",
        "tailLines": "0",
        "previous": "true",
    }


def test_neither_bodies_nor_secrets_show_in_a_repr() -> None:
    assert "hunter2" not in repr(requests.create(PODS, {"x": "hunter2"}, "a"))
    assert "hunter2" not in repr(Response(status=200, body=b"hunter2"))


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", BadRequest),
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (410, "Expired", Gone),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", TooManyRequests),
        (500, "InternalError", ServerError),
        (504, "Timeout", ServerError),
        (405, "MethodNotAllowed", ApiError),
    ],
)
def test_a_status_becomes_the_error_that_it_describes(code: int, reason: str, kind: type[ApiError]) -> None:
    status = {"kind": "Status", "code": code, "reason": reason, "message": "words", "details": {"name": "p"}}
    with pytest.raises(kind) as caught:
        check_response(Response(status=code, body=json.dumps(status).encode()))
    error = caught.value
    assert type(error) is kind
    assert (error.code, error.reason, error.message, error.details) == (code, reason, "words", {"name": "p"})


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [
        ({"retry-after": "3"}, {}, 3.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, {}, 0.0),
        ({"retry-after": "soon"}, {}, None),
        ({}, {"retryAfterSeconds": 2}, 2.0),
        ({}, {}, None),
    ],
)
def test_retry_after_is_read_from_header_and_status(
    headers: dict[str, str], details: dict[str, Any], seconds: float | None
) -> None:
    status = {"kind": "Status", "code": 429, "reason": "TooManyRequests", "details": details}
    with pytest.raises(TooManyRequests) as caught:
        check_response(Response(status=429, headers=headers, body=json.dumps(status).encode()))
    assert caught.value.retry_after == seconds


def test_success_is_handed_through() -> None:
    response = Response(status=201, body=b"{}")
    assert check_response(response) is response


@pytest.mark.parametrize("answer", [b"<html>", b"[1]", b"", b"\xff"])
def test_an_answer_that_is_no_object_did_not_come_from_kubernetes(answer: bytes) -> None:
    with pytest.raises(Unreachable) as caught:
        Response(status=200, body=answer, endpoint="https://a:1").json()
    assert caught.value.reason == "protocol"
    assert "https://a:1" in caught.value.message
