"""What admission fills in from the cluster's classes, and from who is asking."""

from __future__ import annotations

import base64

import pytest

from kubewire.client import Client
from kubewire.errors import Forbidden
from kubewire.resources import INGRESS_CLASSES, INGRESSES, PODS, RUNTIME_CLASSES, Resource

pytestmark = pytest.mark.anyio

REQUESTS = Resource(
    "certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", namespaced=False
)
PEM = base64.b64encode(
    b"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n"
).decode()


def pod(**spec: object) -> dict[str, object]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


async def test_a_pod_gets_the_overhead_and_the_place_of_its_runtime_class(client: Client) -> None:
    with pytest.raises(Forbidden, match='pod rejected: RuntimeClass "r" not found'):
        await client.create(PODS, pod(runtimeClassName="r"), "default")
    runs = {
        "metadata": {"name": "r"},
        "handler": "r",
        "overhead": {"podFixed": {"cpu": "10m"}},
        "scheduling": {"nodeSelector": {"a": "b"}},
    }
    await client.create(RUNTIME_CLASSES, runs)
    with pytest.raises(Forbidden, match="Pod's Overhead doesn't match"):
        await client.create(PODS, pod(runtimeClassName="r", overhead={"cpu": "1"}), "default")
    with pytest.raises(Forbidden, match="Pod Overhead set without"):
        await client.create(PODS, pod(overhead={"cpu": "1"}), "default")
    made = await client.create(PODS, pod(runtimeClassName="r"), "default")
    assert made["spec"]["overhead"] == {"cpu": "10m"}
    assert made["spec"]["nodeSelector"] == {"a": "b"}


async def test_an_ingress_gets_the_default_class(client: Client) -> None:
    backend = {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}
    plain = await client.create(INGRESSES, {"metadata": {"name": "a"}, "spec": backend}, "default")
    assert "ingressClassName" not in plain["spec"]
    marked = {"ingressclass.kubernetes.io/is-default-class": "true"}
    for name in ("x", "w"):
        await client.create(
            INGRESS_CLASSES,
            {"metadata": {"name": name, "annotations": marked}, "spec": {"controller": "a.b/c"}},
        )
    made = await client.create(INGRESSES, {"metadata": {"name": "b"}, "spec": backend}, "default")
    assert made["spec"]["ingressClassName"] in ("w", "x")


async def test_a_request_for_a_certificate_says_who_asked(client: Client) -> None:
    spec = {"request": PEM, "signerName": "a.b/c", "usages": ["client auth"], "username": "somebody else"}
    made = await client.create(REQUESTS, {"metadata": {"name": "r"}, "spec": spec})
    assert made["spec"]["username"] == "admin"
