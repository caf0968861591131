"""Webhooks: what they are asked, what their answers do, in which order, and what happens without an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubewire.client import Client
from kubewire.errors import ApiError
from kubewire.requests import Request, Response
from kubewire.resources import (
    CONFIG_MAPS,
    ENDPOINTS,
    HORIZONTAL_POD_AUTOSCALERS,
    NAMESPACES,
    PODS,
    SERVICES,
    Resource,
)

from .hookserver import HookServer, allow, ca_bundle, deny, patching, reviewed

pytestmark = pytest.mark.anyio

GROUP = "admissionregistration.k8s.io"
MUTATING = Resource(GROUP, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False)
VALIDATING = Resource(GROUP, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False)
MAPS = "/api/v1/namespaces/default/configmaps"
EVERYTHING = {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}
ON_MAPS = {"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}


def hook(
    hooks: HookServer, name: str, path: str, rule: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "name": f"{name}.example.com",
        "clientConfig": hooks.client_config(path),
        "rules": [rule or ON_MAPS],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


async def configured(client: Client, kind: Resource, *webhooks: dict[str, Any], name: str = "hooks") -> None:
    await client.create(kind, {"metadata": {"name": name}, "webhooks": list(webhooks)})


async def sent(client: Client, method: str, path: str, body: Any = None, **query: str) -> Response:
    data = orjson.dumps(body) if body is not None else None
    headers = {"content-type": "application/json"}
    return await client.raw(
        Request(method=method, path=path, query=tuple(query.items()), headers=headers, body=data), 20
    )


def config_map(name: str = "a", **members: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **members}


async def refusal(client: Client, name: str = "a") -> ApiError:
    with pytest.raises(ApiError) as caught:
        await client.create(CONFIG_MAPS, config_map(name), "default")
    return caught.value


# What is asked


async def test_a_webhook_is_asked_about_the_request_in_full(client: Client, hooks: HookServer) -> None:
    hooks.answers["/v"] = allow
    await configured(client, VALIDATING, hook(hooks, "v", "/v"))
    await client.create(CONFIG_MAPS, config_map(data={"a": "b"}), "default")
    target, review = hooks.asked[0]
    assert target == "/v?timeout=10s"
    assert (review["apiVersion"], review["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    request = review["request"]
    assert request["kind"] == request["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert request["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (request["name"], request["namespace"], request["operation"]) == ("a", "default", "CREATE")
    assert request["userInfo"] == {"username": "admin", "groups": ["system:masters", "system:authenticated"]}
    assert request["object"]["data"] == {"a": "b"}
    assert request["object"]["metadata"]["uid"]
    assert request["oldObject"] is None
    assert request["dryRun"] is False
    assert request["options"] == {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}


async def test_updates_and_deletions_come_with_the_old_object(client: Client, hooks: HookServer) -> None:
    hooks.answers["/v"] = allow
    await client.create(CONFIG_MAPS, config_map(data={"a": "1"}), "default")
    await configured(client, VALIDATING, hook(hooks, "v", "/v"))
    await sent(client, "PUT", f"{MAPS}/a", config_map(data={"a": "2"}))
    await client.delete(CONFIG_MAPS, "a", "default")
    update, delete = hooks.requests("/v")
    assert (update["operation"], update["oldObject"]["data"], update["object"]["data"]) == (
        "UPDATE",
        {"a": "1"},
        {"a": "2"},
    )
    assert (delete["operation"], delete["oldObject"]["data"], delete["object"]) == (
        "DELETE",
        {"a": "2"},
        None,
    )
    assert delete["options"]["kind"] == "DeleteOptions"


async def test_mutating_webhooks_do_not_see_a_name_that_is_not_given_yet(
    client: Client, hooks: HookServer
) -> None:
    hooks.answers |= {"/m": patching({"op": "add", "path": "/data", "value": {"x": "y"}}), "/v": allow}
    await configured(client, MUTATING, hook(hooks, "m", "/m"))
    await configured(client, VALIDATING, hook(hooks, "v", "/v"))
    made = await client.create(
        CONFIG_MAPS,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "some-"}},
        "default",
    )
    (early,), (late,) = hooks.requests("/m"), hooks.requests("/v")
    assert "name" not in early
    assert not {"name", "uid", "creationTimestamp"} & set(early["object"]["metadata"])
    assert late["object"]["metadata"]["name"] == late["name"] == made["metadata"]["name"]
    assert made["metadata"]["name"].startswith("some-")
    assert made["data"] == {"x": "y"}


async def test_subresources_are_asked_about_by_their_own_kind(client: Client, hooks: HookServer) -> None:
    hooks.answers["/v"] = allow
    await configured(
        client,
        VALIDATING,
        hook(
            hooks,
            "v",
            "/v",
            {**EVERYTHING, "apiGroups": [""], "resources": ["pods/*", "serviceaccounts/token"]},
        ),
    )
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await client.create(PODS, pod, "default")
    path = "/api/v1/namespaces/default/pods/p"
    await sent(client, "POST", f"{path}/binding", {"target": {"name": "n"}})
    await sent(client, "PUT", f"{path}/status", {**await client.get(PODS, "p", "default")})
    await sent(client, "POST", f"{path}/eviction", {})
    await sent(client, "POST", "/api/v1/namespaces/default/serviceaccounts/default/token", {"spec": {}})
    found = [
        (one["operation"], one["resource"]["resource"], one.get("subResource", ""), one["kind"]["kind"])
        for one in hooks.requests("/v")
    ]
    assert found == [
        ("CREATE", "pods", "", "Pod"),
        ("CREATE", "pods", "binding", "Binding"),
        ("UPDATE", "pods", "status", "Pod"),
        ("CREATE", "pods", "eviction", "Eviction"),
        ("CREATE", "serviceaccounts", "token", "TokenRequest"),
    ]


async def test_opening_a_stream_into_a_pod_can_be_denied(client: Client, hooks: HookServer) -> None:
    hooks.answers["/v"] = deny(code=403, message="no shell here")
    rule = {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/exec"]}
    await configured(client, VALIDATING, hook(hooks, "v", "/v", rule))
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}}
    await client.create(PODS, pod, "default")
    with pytest.raises(ApiError, match="denied the request: no shell here"):
        async with client.exec("p", "default", ["sh", "-c", "true"]):
            pass
    (asked,) = hooks.requests("/v")
    assert (asked["operation"], asked["subResource"], asked["oldObject"]) == ("CONNECT", "exec", None)
    assert asked["kind"]["kind"] == asked["object"]["kind"] == "PodExecOptions"
    assert asked["object"]["command"] == ["sh", "-c", "true"]


async def test_the_scale_of_a_deployment_can_be_changed_by_a_webhook(
    client: Client, hooks: HookServer
) -> None:
    hooks.answers["/m"] = patching({"op": "replace", "path": "/spec/replicas", "value": 2})
    rule = {"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["*/scale"]}
    await configured(client, MUTATING, hook(hooks, "m", "/m", rule))
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = {
        "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    path = "/apis/apps/v1/namespaces/default/deployments"
    assert (await sent(client, "POST", path, deployment)).status == 201
    scale = {"metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": 9}}
    answer = await sent(client, "PUT", f"{path}/d/scale", scale)
    assert answer.json()["spec"] == {"replicas": 2}
    (asked,) = hooks.requests("/m")
    assert asked["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert (asked["object"]["spec"], asked["oldObject"]["spec"]) == ({"replicas": 9}, {"replicas": 1})


async def test_a_rule_for_another_version_gets_the_object_in_that_version(
    client: Client, hooks: HookServer
) -> None:
    hooks.answers |= {"/v": allow, "/exact": allow}
    rule = {**EVERYTHING, "apiGroups": ["autoscaling"], "apiVersions": ["v1"]}
    await configured(
        client,
        VALIDATING,
        hook(hooks, "v", "/v", rule),
        hook(hooks, "exact", "/exact", rule, matchPolicy="Exact"),
    )
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    await client.create(
        HORIZONTAL_POD_AUTOSCALERS,
        {"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": target}},
        "default",
    )
    (asked,) = hooks.requests("/v")
    assert asked["kind"]["version"] == asked["resource"]["version"] == "v1"
    assert asked["object"]["apiVersion"] == "autoscaling/v1"
    assert asked["requestKind"]["version"] == asked["requestResource"]["version"] == "v2"
    assert hooks.requests("/exact") == []


async def test_selectors_and_scopes_keep_webhooks_from_what_is_not_theirs(
    client: Client, hooks: HookServer
) -> None:
    names = ("object", "namespace", "cluster", "namespaced", "condition")
    hooks.answers |= {f"/{name}": allow for name in names}
    labelled = {"matchLabels": {"team": "red"}}
    await configured(
        client,
        VALIDATING,
        hook(hooks, "object", "/object", objectSelector=labelled),
        hook(hooks, "namespace", "/namespace", EVERYTHING, namespaceSelector=labelled),
        hook(hooks, "cluster", "/cluster", {**EVERYTHING, "scope": "Cluster"}),
        hook(hooks, "namespaced", "/namespaced", {**EVERYTHING, "scope": "Namespaced"}),
        hook(
            hooks,
            "condition",
            "/condition",
            matchConditions=[{"name": "big", "expression": "has(object.data) && size(object.data) > 1"}],
        ),
    )
    await client.create(NAMESPACES, {"metadata": {"name": "red", "labels": {"team": "red"}}})
    await client.create(CONFIG_MAPS, config_map("plain"), "default")
    red = {"name": "red", "labels": {"team": "red"}}
    await client.create(CONFIG_MAPS, {"metadata": red, "data": {"a": "1", "b": "2"}}, "red")
    asked = {name: [one["name"] for one in hooks.requests(f"/{name}")] for name in names}
    assert asked["object"] == ["red"]
    assert asked["namespace"] == ["red", "red"]  # the namespace itself and what is in it
    assert asked["cluster"] == ["red"]
    assert asked["namespaced"] == ["plain", "red"]
    assert asked["condition"] == ["red"]


async def test_configurations_of_webhooks_are_never_shown_to_them(client: Client, hooks: HookServer) -> None:
    hooks.answers["/v"] = deny(message="no")
    await configured(client, VALIDATING, hook(hooks, "v", "/v", EVERYTHING))
    await client.delete(VALIDATING, "hooks")
    assert hooks.asked == []


# What the answers do


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        ({"message": "too red"}, 400, 'admission webhook "v.example.com" denied the request: too red'),
        ({"reason": "Because"}, 400, 'admission webhook "v.example.com" denied the request: Because'),
        ({}, 400, 'admission webhook "v.example.com" denied the request without explanation'),
        ({"code": 403, "message": "m"}, 403, 'admission webhook "v.example.com" denied the request: m'),
        ({"code": 200, "message": "m"}, 400, 'admission webhook "v.example.com" denied the request: m'),
    ],
)
async def test_a_denial_is_told_in_the_words_of_the_webhook(
    client: Client, hooks: HookServer, status: dict[str, Any], code: int, message: str
) -> None:
    hooks.answers["/v"] = deny(**status)
    await configured(client, VALIDATING, hook(hooks, "v", "/v"))
    error = await refusal(client)
    assert (error.code, str(error)) == (code, message)
    with pytest.raises(ApiError, match="not found"):
        await client.get(CONFIG_MAPS, "a", "default")


async def test_a_denied_deletion_leaves_the_object(client: Client, hooks: HookServer) -> None:
    hooks.answers["/v"] = deny(message="keep it")
    await client.create(CONFIG_MAPS, config_map(), "default")
    await configured(client, VALIDATING, hook(hooks, "v", "/v", {**ON_MAPS, "operations": ["DELETE"]}))
    for delete in (
        client.delete(CONFIG_MAPS, "a", "default"),
        client.delete_collection(CONFIG_MAPS, "default"),
    ):
        with pytest.raises(ApiError, match="denied the request: keep it"):
            await delete
    assert (await client.get(CONFIG_MAPS, "a", "default"))["metadata"]["name"] == "a"


async def test_warnings_reach_the_client_and_annotations_the_audit_log(
    api: ApiServer, client: Client, hooks: HookServer, tmp_path: Any
) -> None:
    from kubesim.apiserver.audit import Audit

    api.audit = Audit(tmp_path / "audit.log")
    hooks.answers["/v"] = lambda review: reviewed(
        review, warnings=["mind the gap"], auditAnnotations={"why": "because"}
    )
    await configured(client, VALIDATING, hook(hooks, "v", "/v"))
    answer = await sent(client, "POST", MAPS, config_map())
    assert answer.headers["warning"] == '299 - "mind the gap"'
    api.audit.close()
    line = orjson.loads((tmp_path / "audit.log").read_bytes().splitlines()[-1])
    assert line["annotations"] == {"v.example.com/why": "because"}


async def test_mutating_webhooks_see_each_others_changes_and_validating_ones_the_result(
    client: Client, hooks: HookServer
) -> None:
    def label(name: str) -> dict[str, Any]:
        return {"op": "add", "path": f"/data/{name}", "value": "x"}

    hooks.answers |= {"/1": patching(label("one")), "/2": patching(label("two")), "/v": allow}
    await configured(client, MUTATING, hook(hooks, "two", "/2"), name="b")
    await configured(client, MUTATING, hook(hooks, "one", "/1"), name="a")
    await configured(client, VALIDATING, hook(hooks, "v", "/v"))
    made = await client.create(CONFIG_MAPS, config_map(data={"zero": "x"}), "default")
    seen = [set(hooks.requests(path)[0]["object"]["data"]) for path in ("/1", "/2", "/v")]
    assert seen == [{"zero"}, {"zero", "one"}, {"zero", "one", "two"}]
    assert set(made["data"]) == {"zero", "one", "two"}


async def test_who_wants_to_look_again_after_a_change_is_asked_once_more(
    client: Client, hooks: HookServer
) -> None:
    hooks.answers |= {
        "/again": allow,
        "/once": allow,
        "/change": patching({"op": "add", "path": "/data", "value": {"a": "b"}}),
    }
    await configured(
        client,
        MUTATING,
        hook(hooks, "again", "/again", reinvocationPolicy="IfNeeded"),
        hook(hooks, "once", "/once"),
        hook(hooks, "change", "/change"),
    )
    await client.create(CONFIG_MAPS, config_map(), "default")
    assert [target.partition("?")[0] for target, _ in hooks.asked] == ["/again", "/once", "/change", "/again"]
    assert hooks.requests("/again")[1]["object"]["data"] == {"a": "b"}


async def test_what_a_webhook_makes_is_defaulted_and_validated(client: Client, hooks: HookServer) -> None:
    sidecar = {"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "car"}}
    hooks.answers["/m"] = patching(sidecar)
    await configured(
        client, MUTATING, hook(hooks, "m", "/m", {**ON_MAPS, "operations": ["CREATE"], "resources": ["pods"]})
    )
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = await client.create(PODS, pod, "default")
    assert [one["terminationMessagePath"] for one in made["spec"]["containers"]] == [
        "/dev/termination-log"
    ] * 2
    assert made["spec"]["containers"][1]["volumeMounts"], "built-in plugins look again after a webhook"
    pod["metadata"]["name"] = "q"
    hooks.answers["/m"] = patching({"op": "replace", "path": "/spec/containers/0/name", "value": "No!"})
    with pytest.raises(ApiError, match=r'Pod "q" is invalid: spec.containers\[0\].name'):
        await client.create(PODS, pod, "default")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            patching({"op": "add", "path": "/no/where", "value": 1}),
            "add operation does not apply: doc is missing",
        ),
        (
            lambda review: reviewed(review, patch="W10="),
            "webhook returned response.patch but not response.patchType",
        ),
        (
            lambda review: reviewed(review) | {"apiVersion": "v2"},
            "expected webhook response of admission.k8s.io/v1",
        ),
        (lambda review: {"kind": "AdmissionReview"}, "webhook response was absent"),
        (
            lambda review: {**reviewed(review), "response": {"uid": "x", "allowed": True}},
            'expected response.uid="',
        ),
        (lambda review: b"not json", "failed to call webhook"),
        (lambda review: 500, 'an error on the server ("broken") has prevented the request from succeeding'),
        (lambda review: 404, "the server could not find the requested resource"),
    ],
)
async def test_an_answer_that_is_none_fails_the_request(
    client: Client, hooks: HookServer, answer: Any, message: str
) -> None:
    hooks.answers["/m"] = answer
    await configured(client, MUTATING, hook(hooks, "m", "/m"))
    error = await refusal(client)
    assert (error.code, error.reason) == (500, "InternalError")
    assert message in str(error)


async def test_a_validating_webhook_may_change_nothing(client: Client, hooks: HookServer) -> None:
    hooks.answers["/v"] = patching({"op": "add", "path": "/data", "value": {}})
    await configured(client, VALIDATING, hook(hooks, "v", "/v"))
    assert str(await refusal(client)) == (
        'Internal error occurred: failed calling webhook "v.example.com": received invalid webhook response: '
        "validating webhook may not return response.patch"
    )


# Dry run


async def test_a_dry_run_calls_only_webhooks_without_side_effects(client: Client, hooks: HookServer) -> None:
    hooks.answers["/v"] = allow
    await configured(client, VALIDATING, hook(hooks, "v", "/v", sideEffects="NoneOnDryRun"))
    assert (await sent(client, "POST", MAPS, config_map(), dryRun="All")).status == 201
    assert hooks.requests("/v")[0]["dryRun"] is True
    await client.delete(VALIDATING, "hooks")
    with pytest.raises(ApiError, match='sideEffects: Unsupported value: "Some": supported values: "None"'):
        await configured(client, VALIDATING, hook(hooks, "v", "/v", sideEffects="Some"))


# Without an answer


async def test_a_webhook_that_hangs_fails_the_request_in_its_time(client: Client, hooks: HookServer) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    hooks.answers["/v"] = lambda review: never()
    await configured(client, VALIDATING, hook(hooks, "v", "/v", timeoutSeconds=1))
    before = asyncio.get_running_loop().time()
    error = await refusal(client)
    assert asyncio.get_running_loop().time() - before < 5
    url = f"https://localhost:{hooks.port}/v?timeout=1s"
    assert str(error) == (
        'Internal error occurred: failed calling webhook "v.example.com": failed to call webhook: '
        f'Post "{url}": context deadline exceeded'
    )


async def test_nobody_else_waits_for_a_webhook_that_hangs(client: Client, hooks: HookServer) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        begun.set()
        await release.wait()

    hooks.answers["/v"] = lambda review: held()
    selector = {"matchLabels": {"slow": "yes"}}
    await configured(
        client, VALIDATING, hook(hooks, "v", "/v", objectSelector=selector, failurePolicy="Ignore")
    )
    slow = config_map("slow")
    slow["metadata"]["labels"] = {"slow": "yes"}
    waiting = asyncio.create_task(client.create(CONFIG_MAPS, slow, "default"))
    async with asyncio.timeout(5):
        await begun.wait()
        for number in range(5):
            await client.create(CONFIG_MAPS, config_map(f"quick-{number}"), "default")
    assert not waiting.done()
    release.set()
    await waiting


async def test_what_changed_while_a_webhook_was_asked_is_tried_again(
    client: Client, hooks: HookServer
) -> None:
    await client.create(CONFIG_MAPS, config_map(data={"a": "1"}), "default")

    async def meanwhile() -> None:
        hooks.answers["/m"] = patching({"op": "add", "path": "/data/hook", "value": "x"})
        await client.delete(MUTATING, "hooks")
        await client.patch(CONFIG_MAPS, "a", {"data": {"other": "x"}}, "default")
        await configured(client, MUTATING, hook(hooks, "m", "/m", failurePolicy="Ignore"))

    hooks.answers["/m"] = lambda review: meanwhile()
    await configured(client, MUTATING, hook(hooks, "m", "/m", failurePolicy="Ignore"))
    made = await client.patch(CONFIG_MAPS, "a", {"data": {"mine": "x"}}, "default")
    assert made["data"] == {"a": "1", "other": "x", "mine": "x", "hook": "x"}


async def test_a_webhook_that_is_not_there_fails_or_is_passed_over(client: Client, hooks: HookServer) -> None:
    def gone(policy: str) -> dict[str, Any]:
        config = {"url": "https://127.0.0.1:1/v", "caBundle": ca_bundle()}
        return hook(hooks, "v", "/v", clientConfig=config, failurePolicy=policy)

    await configured(client, VALIDATING, gone("Fail"))
    assert str(await refusal(client)) == (
        'Internal error occurred: failed calling webhook "v.example.com": failed to call webhook: '
        'Post "https://127.0.0.1:1/v?timeout=10s": dial tcp 127.0.0.1:1: connect: connection refused'
    )
    await client.delete(VALIDATING, "hooks")
    await configured(client, VALIDATING, gone("Ignore"))
    await client.create(CONFIG_MAPS, config_map(), "default")


async def test_a_certificate_of_somebody_else_is_not_trusted(client: Client, hooks: HookServer) -> None:
    hooks.answers["/v"] = allow
    config = {"url": f"https://localhost:{hooks.port}/v"}
    await configured(client, VALIDATING, hook(hooks, "v", "/v", clientConfig=config))
    assert "tls: failed to verify certificate: x509: certificate signed by unknown authority" in str(
        await refusal(client)
    )
    assert hooks.asked == []


# Services


async def test_a_service_is_followed_to_the_addresses_behind_it(client: Client, hooks: HookServer) -> None:
    hooks.answers["/v"] = allow
    config = {"service": {"name": "hook", "namespace": "default", "path": "/v"}, "caBundle": ca_bundle()}
    await configured(client, VALIDATING, hook(hooks, "v", "/v", clientConfig=config))
    where = 'Post "https://hook.default.svc:443/v?timeout=10s": '
    assert f'{where}service "hook" not found' in str(await refusal(client))
    ports = [{"name": "web", "port": 443, "targetPort": hooks.port}]
    await client.create(SERVICES, {"metadata": {"name": "hook"}, "spec": {"ports": ports}}, "default")
    assert f'{where}no endpoints available for service "hook"' in str(await refusal(client))
    subset = {"addresses": [{"ip": "10.9.9.9"}], "ports": [{"name": "other", "port": 1}]}
    await client.create(ENDPOINTS, {"metadata": {"name": "hook"}, "subsets": [subset]}, "default")
    assert "no endpoints available" in str(await refusal(client))
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    made = await sent(
        client,
        "POST",
        path,
        {
            "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
            "addressType": "IPv4",
            "ports": [{"name": "web", "port": hooks.port, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["127.0.0.1"], "conditions": {"ready": True}},
                {"addresses": ["127.0.0.9"], "conditions": {"ready": False}},
            ],
        },
    )
    assert made.status == 201
    await client.create(CONFIG_MAPS, config_map(), "default")
    assert [target for target, _ in hooks.asked] == ["/v?timeout=10s"]


# Conditions


async def test_a_condition_that_cannot_be_evaluated_fails_as_the_policy_says(
    client: Client, hooks: HookServer
) -> None:
    broken = [{"name": "broken", "expression": "object.data.missing == 'x'"}]
    hooks.answers["/v"] = deny(message="never asked")
    await configured(client, VALIDATING, hook(hooks, "v", "/v", matchConditions=broken))
    error = await refusal(client)
    assert error.code == 403
    assert str(error) == (
        "configmaps \"a\" is forbidden: expression 'object.data.missing == 'x'' resulted in error: no such key: data"
    )
    await client.delete(VALIDATING, "hooks")
    await configured(
        client, VALIDATING, hook(hooks, "v", "/v", matchConditions=broken, failurePolicy="Ignore")
    )
    await client.create(CONFIG_MAPS, config_map(), "default")


async def test_a_condition_may_ask_who_asks_and_what_they_may(
    api: ApiServer, client: Client, hooks: HookServer
) -> None:
    hooks.answers["/v"] = deny(message="not you")
    expression = (
        "!authorizer.group('').resource('configmaps').namespace(request.namespace).check('delete').allowed() "
        "&& request.userInfo.username != 'admin'"
    )
    conditions = [{"name": "who", "expression": expression}]
    await configured(client, VALIDATING, hook(hooks, "v", "/v", matchConditions=conditions))
    role = {
        "metadata": {"name": "writer"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}],
    }
    await sent(client, "POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
    binding = {
        "metadata": {"name": "writer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "eve"}],
    }
    await sent(client, "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    eve = Client(InProcessTransport(api, user="eve", groups=("system:authenticated",)))
    assert "not you" in str(await refusal(eve))
    await client.create(CONFIG_MAPS, config_map(), "default")
