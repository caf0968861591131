"""kr8s: objects that know their verbs, over httpx and httpx-ws."""

from __future__ import annotations

import io
import urllib.request
from pathlib import Path

import kr8s
import pytest
from kr8s.objects import ConfigMap, Deployment, Pod, objects_from_files

from .conftest import web_server

# kr8s knows the versions of Kubernetes that were there when it was released
pytestmark = pytest.mark.filterwarnings("ignore:Kubernetes version .* is not supported:UserWarning")


@pytest.fixture
def api(kubesim_kubeconfig: Path, kubesim_namespace: str) -> kr8s.Api:
    return kr8s.api(kubeconfig=str(kubesim_kubeconfig), namespace=kubesim_namespace)


def settings(api: kr8s.Api, name: str, **data: str) -> ConfigMap:
    metadata = {"name": name, "namespace": api.namespace, "labels": {"app": "x"}}
    return ConfigMap({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}, api=api)


def test_objects_are_created_listed_changed_and_deleted(api: kr8s.Api) -> None:
    made = settings(api, "a", k="1")
    made.create()
    assert made.exists()
    assert [one.name for one in api.get("configmaps", label_selector={"app": "x"})] == ["a"]
    made.patch({"data": {"k": "2"}})
    made.label(team="red")
    fresh = ConfigMap.get("a", namespace=api.namespace, api=api)
    assert (fresh.data.k, fresh.labels.team) == ("2", "red")
    made.delete()
    made.wait("delete", timeout=20)
    with pytest.raises(kr8s.NotFoundError):
        ConfigMap.get("a", namespace=api.namespace, api=api, timeout=1)


def test_a_watch_tells_what_is_there_and_what_happens(api: kr8s.Api) -> None:
    made = settings(api, "a", k="1")
    made.create()
    seen = []
    for kind, found in api.watch("configmaps", label_selector={"app": "x"}):
        seen.append((kind, found.data.k))
        if kind == "ADDED":
            made.patch({"data": {"k": "2"}})
        elif kind == "MODIFIED":
            made.delete()
        elif kind == "DELETED":
            break
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


def test_a_manifest_becomes_pods_that_run(api: kr8s.Api, manifest: Path) -> None:
    (found,) = objects_from_files(str(manifest), api=api)
    assert isinstance(found, Deployment)
    found.create()
    found.wait("condition=Available", timeout=20)
    assert {pod.status.phase for pod in found.pods()} == {"Running"}
    found.scale(0)
    found.delete(propagation_policy="Background")


def test_logs_exec_and_port_forward_reach_the_pod(api: kr8s.Api, serving_pod: str) -> None:
    pod = Pod.get(serving_pod, namespace=api.namespace, api=api)
    assert next(iter(pod.logs())) == "started"
    out = io.BytesIO()
    done = pod.exec(["sh", "-c", "echo bread; exit 3"], stdout=out, check=False)
    assert (done.stdout, out.getvalue(), done.returncode) == (b"bread\n", b"bread\n", 3)
    with (
        pod.portforward(8080, local_port="auto") as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer,
    ):
        assert answer.read() == b"hello\n"


def test_a_pod_is_ready_and_then_gone(api: kr8s.Api) -> None:
    pod = Pod(web_server("short") | {}, api=api, namespace=api.namespace)
    pod.create()
    pod.wait("condition=Ready", timeout=20)
    assert pod.ready()
    pod.delete()
    pod.wait("delete", timeout=20)
