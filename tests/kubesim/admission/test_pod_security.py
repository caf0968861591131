"""PodSecurity: what the labels of a namespace keep pods from, in the words that people look for."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.podsecurity import violations
from kubesim.apiserver.requests import ApiRequest, User
from kubewire.client import Client
from kubewire.errors import ApiError
from kubewire.requests import Request, Response
from kubewire.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS

SAFE = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "image": "i",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}
PLAIN: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
RESTRICTED = (
    'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
    'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
    'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
    'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
    '"Localhost")'
)


def container(name: str = "c", **context: Any) -> dict[str, Any]:
    return {"name": name, "image": "i", "securityContext": context}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (PLAIN, ""),
        ({"hostNetwork": True, "hostPID": True}, "host namespaces (hostNetwork=true, hostPID=true)"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, 'hostPath volumes (volume "v")'),
        (
            {"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]},
            'hostPort (container "c" uses hostPort 80)',
        ),
        (
            {"containers": [container("a", privileged=True), container("b", privileged=True)]},
            'privileged (containers "a", "b" must not set securityContext.privileged=true)',
        ),
        (
            {"containers": [container(capabilities={"add": ["NET_ADMIN", "CHOWN"]})]},
            'non-default capabilities (container "c" must not include "NET_ADMIN" in securityContext.capabilities.add)',
        ),
        (
            {"containers": [container(procMount="Unmasked")]},
            'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            {"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}}},
            'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)',
        ),
        (
            {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            {"containers": [container(appArmorProfile={"type": "Unconfined"})]},
            'forbidden AppArmor profile (container "c" must not set AppArmor profile type to "Unconfined")',
        ),
        (
            {"securityContext": {"windowsOptions": {"hostProcess": True}}},
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ],
)
def test_baseline(spec: dict[str, Any], said: str) -> None:
    assert ", ".join(map(str, violations("baseline", {}, spec))) == said
    assert violations("privileged", {}, spec) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"containers": PLAIN["containers"], "securityContext": {}}, RESTRICTED),
        (
            {"volumes": [{"name": "v", "nfs": {"server": "s", "path": "/"}}, {"name": "w", "emptyDir": {}}]},
            'restricted volume types (volume "v" uses restricted volume type "nfs")',
        ),
        (
            {"securityContext": {**SAFE["securityContext"], "runAsUser": 0}},
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            {"securityContext": {**SAFE["securityContext"], "runAsNonRoot": False}},
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        ({"hostIPC": True}, "host namespaces (hostIPC=true)"),
    ],
)
def test_restricted(changes: dict[str, Any], said: str) -> None:
    assert ", ".join(map(str, violations("restricted", {}, {**SAFE, **changes}))) == said


async def namespace(client: Client, **labels: str) -> None:
    made = {f"pod-security.kubernetes.io/{key.replace('_', '-')}": value for key, value in labels.items()}
    await client.create(NAMESPACES, {"metadata": {"name": "n", "labels": made}})
    await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, "n")


async def sent(client: Client, method: str, path: str, body: Any) -> Response:
    headers = {"content-type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
    return await client.raw(Request(method=method, path=path, headers=headers, body=orjson.dumps(body)), 10)


def pod(spec: dict[str, Any], name: str = "p") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


@pytest.mark.anyio
async def test_a_namespace_that_enforces_a_level_takes_only_pods_that_fit(client: Client) -> None:
    await namespace(client, enforce="restricted")
    with pytest.raises(ApiError) as caught:
        await client.create(PODS, pod(PLAIN), "n")
    assert caught.value.code == 403
    assert (
        str(caught.value) == f'pods "p" is forbidden: violates PodSecurity "restricted:latest": {RESTRICTED}'
    )
    await client.create(PODS, pod(SAFE), "n")
    labelled = await sent(
        client, "PATCH", "/api/v1/namespaces/n/pods/p", {"metadata": {"labels": {"a": "b"}}}
    )
    assert labelled.status == 200


@pytest.mark.anyio
async def test_a_namespace_may_only_warn_of_pods_and_of_what_makes_them(client: Client) -> None:
    await namespace(client, warn="restricted", warn_version="v1.30")
    made = await sent(client, "POST", "/api/v1/namespaces/n/pods", pod(PLAIN))
    would = f'would violate PodSecurity "restricted:v1.30": {RESTRICTED}'.replace('"', '\\"')
    assert made.headers["warning"] == f'299 - "{would}"'
    template = {"metadata": {"labels": {"a": "b"}}, "spec": PLAIN}
    job = {
        "metadata": {"name": "j"},
        "spec": {"template": {**template, "spec": {**PLAIN, "restartPolicy": "Never"}}},
    }
    answer = await sent(client, "POST", "/apis/batch/v1/namespaces/n/jobs", job)
    assert answer.headers["warning"] == f'299 - "{would}"'


@pytest.mark.anyio
async def test_labels_that_say_nothing_are_refused_and_stricter_ones_warn_of_what_is_there(
    api: ApiServer, client: Client
) -> None:
    with pytest.raises(ApiError) as caught:
        await namespace(client, enforce="strict", warn_version="2")
    assert (
        'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of '
        in str(caught.value)
    )
    await namespace(client)
    await client.create(PODS, pod({**PLAIN, "hostNetwork": True}), "n")
    patch = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}
    answer = await api.handle(
        ApiRequest(
            method="PATCH",
            path="/api/v1/namespaces/n",
            headers={"content-type": "application/merge-patch+json"},
            body=orjson.dumps(patch),
            user=User(name="admin", groups=("system:masters",)),
        )
    )
    assert [value for name, value in answer.headers if name == "Warning"] == [
        '299 - "existing pods in namespace \\"n\\" violate the new PodSecurity enforce level \\"baseline:latest\\""',
        '299 - "p: host namespaces"',
    ]
