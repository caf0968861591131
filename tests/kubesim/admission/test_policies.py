"""Admission policies in CEL: what they see, what bindings do with it, and what is said."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.audit import Audit
from kubesim.controllers.policystatus import PolicyStatus, status_of
from kubewire.client import Client
from kubewire.errors import ApiError
from kubewire.informer import Informers
from kubewire.requests import Request, Response
from kubewire.resources import CONFIG_MAPS, NAMESPACES, Resource

from .hookserver import HookServer, allow

pytestmark = pytest.mark.anyio

GROUP = "admissionregistration.k8s.io"
VALIDATING = Resource(GROUP, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False)
VALIDATING_BINDINGS = Resource(
    GROUP, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False
)
MUTATING = Resource(GROUP, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", False)
MUTATING_BINDINGS = Resource(
    GROUP, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", False
)
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def rule(
    group: str = "apps", *resources: str, operations: tuple[str, ...] = ("CREATE", "UPDATE")
) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": list(operations),
        "resources": list(resources or ("deployments",)),
    }


ON_MAPS = {"resourceRules": [rule("", "configmaps")]}


async def policy(client: Client, name: str = "p", **spec: Any) -> dict[str, Any]:
    spec = {"matchConstraints": {"resourceRules": [rule()]}, **spec}
    return await client.create(VALIDATING, {"metadata": {"name": name}, "spec": spec})


async def bound(client: Client, name: str = "b", policy: str = "p", **spec: Any) -> None:
    spec = {"policyName": policy, "validationActions": ["Deny"], **spec}
    await client.create(VALIDATING_BINDINGS, {"metadata": {"name": name}, "spec": spec})


def deployment(name: str = "d", replicas: int = 9, **meta: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, **meta},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }


async def sent(client: Client, method: str, path: str, body: Any = None) -> Response:
    headers = {"content-type": "application/json"}
    data = orjson.dumps(body) if body is not None else None
    return await client.raw(Request(method=method, path=path, headers=headers, body=data), 10)


async def refusal(client: Client, body: dict[str, Any] | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await sent(client, "POST", DEPLOYMENTS, body or deployment())
    return caught.value


# Validating


async def test_a_policy_denies_in_the_words_of_the_real_server(client: Client) -> None:
    await policy(client, validations=[{"expression": "object.spec.replicas <= 5"}])
    await bound(client)
    error = await refusal(client)
    why = "failed expression: object.spec.replicas <= 5"
    message = f"ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {why}"
    assert (error.code, error.reason) == (422, "Invalid")
    assert str(error) == f'deployments.apps "d" is forbidden: {message}'
    assert error.details == {
        "name": "d",
        "group": "apps",
        "kind": "deployments",
        "causes": [{"message": message}],
    }
    assert (await sent(client, "POST", DEPLOYMENTS, deployment(replicas=5))).status == 201


async def test_a_policy_without_a_binding_does_nothing(client: Client) -> None:
    await policy(client, validations=[{"expression": "false"}])
    assert (await sent(client, "POST", DEPLOYMENTS, deployment())).status == 201


@pytest.mark.parametrize(
    ("validation", "code", "said"),
    [
        ({"message": "too many"}, 422, "too many"),
        ({"messageExpression": "'not ' + string(object.spec.replicas)", "message": "m"}, 422, "not 9"),
        ({"messageExpression": "object.none + ''", "message": "the other"}, 422, "the other"),
        ({"message": "go away", "reason": "Forbidden"}, 403, "go away"),
        ({"message": "who", "reason": "Unauthorized"}, 401, "who"),
        ({"message": "big", "reason": "RequestEntityTooLarge"}, 413, "big"),
    ],
)
async def test_messages_and_reasons_are_those_of_the_validation(
    client: Client, validation: dict[str, Any], code: int, said: str
) -> None:
    await policy(client, validations=[{"expression": "object.spec.replicas < 5", **validation}])
    await bound(client)
    error = await refusal(client)
    assert error.code == code
    assert str(error).endswith(f"denied request: {said}")


async def test_bindings_may_warn_and_write_into_the_audit_log_instead(
    api: ApiServer, client: Client, tmp_path: Path
) -> None:
    await policy(
        client,
        validations=[{"expression": "object.spec.replicas < 5", "message": "many"}],
        auditAnnotations=[{"key": "size", "valueExpression": "'replicas: ' + string(object.spec.replicas)"}],
    )
    await bound(client, validationActions=["Warn", "Audit"])
    api.audit = Audit(tmp_path / "audit.log")
    answer = await sent(client, "POST", DEPLOYMENTS, deployment())
    api.audit.close()
    warning = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': many"
    assert answer.status == 201
    assert answer.headers["warning"] == f'299 - "{warning}"'
    notes = orjson.loads((tmp_path / "audit.log").read_bytes())["annotations"]
    assert notes["p/size"] == "replicas: 9"
    assert orjson.loads(notes["validation.policy.admission.k8s.io/validation_failure"]) == [
        {
            "message": "many",
            "policy": "p",
            "binding": "b",
            "expressionIndex": 0,
            "validationActions": ["Warn", "Audit"],
        }
    ]


async def test_expressions_see_the_request_its_namespace_the_old_object_and_variables(client: Client) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "red", "labels": {"team": "red"}}})
    checks = [
        "request.operation == 'CREATE' || oldObject.data.a == '1'",
        "request.namespace == 'red' && request.name == 'm' && request.resource.resource == 'configmaps'",
        "request.userInfo.username == 'admin' && 'system:masters' in request.userInfo.groups",
        "namespaceObject.metadata.labels.team == 'red' && namespaceObject.metadata.name == 'red'",
        "variables.again == variables.first + 1 && variables.lazy || true",
        "authorizer.requestResource.check('create').allowed()",
        "has(object.data) && object.?none.orValue('x') == 'x'",
    ]
    await policy(
        client,
        matchConstraints=ON_MAPS,
        variables=[
            {"name": "first", "expression": "size(object.data)"},
            {"name": "again", "expression": "variables.first + 1"},
            {"name": "lazy", "expression": "object.none == 1"},
        ],
        validations=[{"expression": one} for one in checks],
    )
    await bound(client)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}}
    await client.create(CONFIG_MAPS, body, "red")
    await sent(client, "PUT", "/api/v1/namespaces/red/configmaps/m", {**body, "data": {"a": "2"}})


async def test_parameters_come_from_where_the_binding_says(client: Client) -> None:
    await policy(
        client,
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        validations=[{"expression": "object.spec.replicas <= int(params.data.most)"}],
    )
    reference = {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
    await bound(client, paramRef=reference)
    error = await refusal(client)
    assert str(error).endswith(
        "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed to configure binding: "
        "no params found for policy binding with `Deny` parameterNotFoundAction"
    )
    await client.create(CONFIG_MAPS, {"metadata": {"name": "limits"}, "data": {"most": "3"}}, "default")
    assert (await sent(client, "POST", DEPLOYMENTS, deployment(replicas=3))).status == 201
    assert "failed expression" in str(await refusal(client))


async def test_parameters_chosen_by_labels_all_count_and_none_at_all_may_be_allowed(client: Client) -> None:
    await policy(
        client,
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        validations=[
            {
                "expression": "object.spec.replicas <= int(params.data.most)",
                "messageExpression": "params.metadata.name + ' says ' + params.data.most",
            }
        ],
    )
    chosen = {"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Allow"}
    await bound(client, paramRef=chosen)
    assert (await sent(client, "POST", DEPLOYMENTS, deployment("one"))).status == 201
    for name, most in (("a", "50"), ("b", "7")):
        made = {"metadata": {"name": name, "labels": {"limit": "yes"}}, "data": {"most": most}}
        await client.create(CONFIG_MAPS, made, "default")
    assert str(await refusal(client)).endswith("denied request: b says 7")


async def test_a_kind_of_parameters_that_is_not_there_is_said(client: Client) -> None:
    await policy(
        client,
        paramKind={"apiVersion": "rules.example.com/v1", "kind": "Limit"},
        validations=[{"expression": "params != null"}],
    )
    await bound(client, paramRef={"name": "x", "parameterNotFoundAction": "Allow"})
    assert str(await refusal(client)).endswith(
        "ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource "
        "referenced by paramKind: 'rules.example.com/v1, Kind=Limit'"
    )


async def test_what_cannot_be_evaluated_fails_as_the_policy_says(client: Client) -> None:
    await policy(client, "strict", validations=[{"expression": "object.spec.none == 1"}])
    await policy(client, "lax", failurePolicy="Ignore", validations=[{"expression": "object.spec.none == 1"}])
    await bound(client, "lax", "lax")
    assert (await sent(client, "POST", DEPLOYMENTS, deployment("one"))).status == 201
    await bound(client, "strict", "strict")
    assert str(await refusal(client)).endswith(
        "denied request: expression 'object.spec.none == 1' resulted in error: no such key: none"
    )


async def test_conditions_selectors_and_exclusions_keep_a_policy_away(client: Client) -> None:
    no = [{"expression": "false", "message": "no"}]
    condition = {"name": "big", "expression": "object.spec.replicas > 5"}
    await policy(client, "c", matchConditions=[condition], validations=no)
    await policy(
        client,
        "s",
        matchConstraints={
            "resourceRules": [rule()],
            "excludeResourceRules": [{**rule(), "resourceNames": ["spared"]}],
            "objectSelector": {"matchLabels": {"team": "red"}},
        },
        validations=no,
    )
    for name in ("c", "s"):
        await bound(client, name, name)
    red = {"labels": {"team": "red"}}
    assert (await sent(client, "POST", DEPLOYMENTS, deployment("small", 1))).status == 201
    assert (await sent(client, "POST", DEPLOYMENTS, deployment("spared", 1, **red))).status == 201
    assert "'c' with binding 'c'" in str(await refusal(client, deployment("big", 9)))
    assert "'s' with binding 's'" in str(await refusal(client, deployment("red", 1, **red)))


async def test_a_binding_narrows_what_its_policy_is_for(client: Client) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "red", "labels": {"team": "red"}}})
    await policy(client, matchConstraints=ON_MAPS, validations=[{"expression": "false"}])
    await bound(client, matchResources={"namespaceSelector": {"matchLabels": {"team": "red"}}})
    await client.create(CONFIG_MAPS, {"metadata": {"name": "m"}}, "default")
    with pytest.raises(ApiError, match="denied request"):
        await client.create(CONFIG_MAPS, {"metadata": {"name": "m"}}, "red")


async def test_deletions_are_judged_by_the_old_object(client: Client) -> None:
    await client.create(CONFIG_MAPS, {"metadata": {"name": "m", "labels": {"keep": "yes"}}}, "default")
    await policy(
        client,
        matchConstraints={"resourceRules": [rule("", "configmaps", operations=("DELETE",))]},
        validations=[
            {"expression": "object == null && !has(oldObject.metadata.labels.keep)", "message": "keep"}
        ],
    )
    await bound(client)
    with pytest.raises(ApiError, match="denied request: keep"):
        await client.delete(CONFIG_MAPS, "m", "default")


async def test_policies_do_not_keep_anybody_from_changing_policies(client: Client) -> None:
    everything = {"resourceRules": [rule("*", "*", operations=("*",))]}
    await policy(client, matchConstraints=everything, validations=[{"expression": "false"}])
    await bound(client)
    await client.delete(VALIDATING_BINDINGS, "b")
    await client.delete(VALIDATING, "p")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {},
            "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
        ),
        (
            {"validations": [{"expression": "object.spec.replicas >"}]},
            'spec.validations[0].expression: Invalid value: "object.spec.replicas >": compilation failed: ERROR: '
            "<input>:1:23: Syntax error: mismatched input '<EOF>' expecting",
        ),
        (
            {"validations": [{"expression": "params.x == 1"}]},
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')",
        ),
        ({"validations": [{"expression": "variables.x"}]}, "undefined field 'x'"),
        ({"validations": [{"expression": "request.nme == 'a'"}]}, "undefined field 'nme'"),
        ({"validations": [{"expression": "1 + 1"}]}, "must evaluate to bool"),
        (
            {"validations": [{"expression": "true", "reason": "Because"}]},
            "spec.validations[0].reason: Unsupported",
        ),
        (
            {"validations": [{"expression": "true", "messageExpression": "1"}]},
            'spec.validations[0].messageExpression: Invalid value: "1": must evaluate to string',
        ),
        (
            {"validations": [{"expression": "true"}], "variables": [{"name": "a b", "expression": "1"}]},
            "name is not a valid CEL identifier",
        ),
        (
            {"validations": [{"expression": "true"}], "matchConstraints": {}},
            "spec.matchConstraints.resourceRules: Required value",
        ),
    ],
)
async def test_a_policy_that_cannot_be_right_is_refused(
    client: Client, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(ApiError) as caught:
        await policy(client, **spec)
    assert caught.value.code == 422
    assert message in str(caught.value)


async def test_a_binding_cannot_both_deny_and_warn(client: Client) -> None:
    with pytest.raises(ApiError, match="must not contain both Deny and Warn"):
        await bound(client, validationActions=["Deny", "Warn"])


# Status


def test_the_status_names_fields_that_the_kinds_of_a_policy_do_not_have() -> None:
    found = status_of(
        {
            "metadata": {"generation": 2},
            "spec": {
                "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "matchConstraints": {"resourceRules": [{**rule(), "apiVersions": ["v1"]}]},
                "validations": [
                    {"expression": "object.spec.replicas > 1 && params.data.x == 'y'"},
                    {"expression": "object.replicas > 1"},
                    {"expression": "object.spec.replicas > '1'", "messageExpression": "params.none"},
                ],
            },
        }
    )
    assert found["observedGeneration"] == 2
    deployment = "apps/v1, Kind=Deployment: ERROR: <input>:1:"
    undefined = "7: undefined field 'replicas'\n | object.replicas > 1\n | ......^"
    one, two, three = found["typeChecking"]["expressionWarnings"]
    assert one == {"fieldRef": "spec.validations[1].expression", "warning": f"{deployment}{undefined}"}
    assert "found no matching overload for '_>_' applied to '(int, string)'" in two["warning"]
    assert three["fieldRef"] == "spec.validations[2].messageExpression"


async def test_the_controller_writes_the_status_of_the_present_generation(client: Client) -> None:
    async with Informers(client) as informers:
        controller = PolicyStatus(client, informers)
        working = asyncio.create_task(controller.run())
        try:
            await policy(client, validations=[{"expression": "true"}])
            async with asyncio.timeout(5):
                async with contextlib.aclosing(client.watch(VALIDATING)) as events:
                    async for event in events:
                        status = (event.object or {}).get("status") or {}
                        if status.get("observedGeneration") == 1:
                            break
            assert status == {"observedGeneration": 1, "typeChecking": {}}
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


# Mutating


async def mutation(client: Client, *mutations: dict[str, Any], name: str = "m", **spec: Any) -> None:
    spec = {
        "matchConstraints": ON_MAPS,
        "reinvocationPolicy": "Never",
        "mutations": list(mutations),
        **spec,
    }
    await client.create(MUTATING, {"metadata": {"name": name}, "spec": spec})
    binding = {"metadata": {"name": f"{name}-b"}, "spec": {"policyName": name}}
    await client.create(MUTATING_BINDINGS, binding)


def laid(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patched(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


async def test_a_configuration_is_laid_over_the_object(client: Client) -> None:
    labels = "Object.metadata{labels: {'by': request.userInfo.username}}"
    expression = f"Object{{metadata: {labels}, data: {{'b': object.data.a + '!'}}}}"
    await mutation(client, laid(expression))
    made = await client.create(CONFIG_MAPS, {"metadata": {"name": "m"}, "data": {"a": "1"}}, "default")
    assert made["metadata"]["labels"] == {"by": "admin"}
    assert made["data"] == {"a": "1", "b": "1!"}


async def test_lists_are_merged_by_their_keys(client: Client) -> None:
    container = "Object.spec.template.spec.containers{name: 'c', imagePullPolicy: 'Never'}"
    side = "Object.spec.template.spec.containers{name: 'side', image: 'car'}"
    inner = f"Object.spec.template{{spec: Object.spec.template.spec{{containers: [{container}, {side}]}}}}"
    await mutation(
        client,
        laid(f"Object{{spec: Object.spec{{template: {inner}}}}}"),
        matchConstraints={"resourceRules": [rule()]},
    )
    made = (await sent(client, "POST", DEPLOYMENTS, deployment())).json()
    one, two = made["spec"]["template"]["spec"]["containers"]
    assert (one["name"], one["image"], one["imagePullPolicy"]) == ("c", "i:1", "Never")
    assert (two["name"], two["image"], two["terminationMessagePath"]) == (
        "side",
        "car",
        "/dev/termination-log",
    )


async def test_what_belongs_together_cannot_be_laid_over(client: Client) -> None:
    spec = "Object.spec{selector: Object.spec.selector{matchLabels: {'x': 'y'}}}"
    await mutation(client, laid(f"Object{{spec: {spec}}}"), matchConstraints={"resourceRules": [rule()]})
    assert str(await refusal(client)) == (
        "deployments.apps \"d\" is forbidden: policy 'm' with binding 'm-b' denied request: invalid "
        "ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector"
    )


async def test_a_patch_is_made_of_operations(client: Client) -> None:
    await mutation(
        client,
        patched(
            "has(object.data) ? [JSONPatch{op: 'add', value: 'x', path: '/metadata/labels/' + "
            "jsonpatch.escapeKey('a/b')}, "
            "JSONPatch{op: 'test', path: '/data/a', value: '1'}] : []"
        ),
        patched("[JSONPatch{op: 'add', path: '/metadata/labels/size', value: string(size(object.data))}]"),
    )
    labels = {"a": "b"}
    body = {"metadata": {"name": "m", "labels": labels}, "data": {"a": "1"}}
    made = await client.create(CONFIG_MAPS, body, "default")
    assert made["metadata"]["labels"] == {"a": "b", "a/b": "x", "size": "1"}


async def test_a_patch_that_does_not_fit_is_refused_or_passed_over(client: Client) -> None:
    broken = patched("[JSONPatch{op: 'remove', path: '/data/none'}]")
    await mutation(client, broken, name="lax", failurePolicy="Ignore")
    await client.create(CONFIG_MAPS, {"metadata": {"name": "one"}}, "default")
    await mutation(client, broken)
    with pytest.raises(
        ApiError, match="policy 'm' with binding 'm-b' denied request: JSON Patch: remove operation"
    ):
        await client.create(CONFIG_MAPS, {"metadata": {"name": "two"}}, "default")


async def test_policies_come_before_webhooks_and_look_again_after_them(
    client: Client, hooks: HookServer
) -> None:
    hooks.answers["/m"] = allow
    count = "Object{data: {'seen': object.?data.?seen.orValue('') + 'x'}}"
    await mutation(client, laid(count), name="a", reinvocationPolicy="IfNeeded")
    await mutation(client, laid("Object{data: {'other': 'y'}}"), name="b")
    await client.create(
        Resource(GROUP, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False),
        {
            "metadata": {"name": "w"},
            "webhooks": [
                {
                    "name": "w.example.com",
                    "clientConfig": hooks.client_config("/m"),
                    "rules": [rule("", "configmaps")],
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                }
            ],
        },
    )
    made = await client.create(CONFIG_MAPS, {"metadata": {"name": "m"}}, "default")
    assert hooks.requests("/m")[0]["object"]["data"] == {"seen": "x", "other": "y"}
    assert made["data"] == {"seen": "xx", "other": "y"}


@pytest.mark.parametrize(
    ("mutations", "message"),
    [
        ([], "spec.mutations: Required value"),
        ([laid("1")], "must evaluate to Object"),
        ([laid("Other{a: 1}")], "undeclared reference to 'Other' (in container '')"),
        ([patched("true")], "must evaluate to list(JSONPatch)"),
        ([{"patchType": "JSONPatch"}], "spec.mutations[0].jsonPatch: Required value"),
    ],
)
async def test_a_mutation_that_cannot_be_right_is_refused(
    client: Client, mutations: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ApiError) as caught:
        await mutation(client, *mutations)
    assert caught.value.code == 422
    assert message in str(caught.value)
