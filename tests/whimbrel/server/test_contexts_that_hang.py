"""Contexts that hang cost only those who name them: seen at a real server between them and a healthy one."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Server, task
from kubewire.testing import Exchange, broken, http_server

pytestmark = pytest.mark.anyio

HANGING = 20


async def healthy(exchange: Exchange) -> None:
    """A small cluster with two GPU machines."""
    machines = [
        {
            "metadata": {"name": f"m{number}", "labels": {"nvidia.com/gpu.product": "NVIDIA-L4"}},
            "spec": {},
            "status": {
                "capacity": {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "4"},
                "allocatable": {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "4"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        for number in range(2)
    ]
    answers: dict[str, Any] = {
        "/version": {"gitVersion": "v1.36.0"},
        "/api/v1/namespaces/kube-system": {"metadata": {"name": "kube-system", "uid": "u-1"}},
        "/api/v1/nodes": {"metadata": {"resourceVersion": "1"}, "items": machines},
        "/api/v1/pods": {"metadata": {"resourceVersion": "1"}, "items": []},
    }
    await exchange.reply(200, answers[exchange.request.path])


@dataclass
class Lab:
    """A server, and the kubeconfig in front of it."""

    server: Server
    kubeconfig: Path
    threads: ThreadPoolExecutor

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[float, Any]:
        """The seconds that a call took, and its answer."""
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self.threads, self.server.http.call, method, path, body)
        return time.monotonic() - began, answer

    async def metrics(self) -> str:
        """The page for Prometheus."""
        pieces = await asyncio.to_thread(lambda: list(self.server.http.download("/metrics")))
        return b"".join(pieces).decode()


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    """One healthy context, and twenty that accept connections and never answer."""
    directory = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("KUBESIM_HOME", str(directory / "kubesim"))
    monkeypatch.setenv("KUBECONFIG", str(directory / "kubeconfig"))
    server = Server(directory, real=True)
    try:
        async with AsyncExitStack() as stack:
            good = await stack.enter_async_context(http_server(healthy))
            bad = await stack.enter_async_context(broken("silent"))
            urls = {"good": good.url, **{f"hang{number}": bad for number in range(HANGING)}}
            (directory / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(urls)))
            await asyncio.to_thread(server.start)
            with ThreadPoolExecutor(80) as threads:
                yield Lab(server, directory / "kubeconfig", threads)
            await asyncio.to_thread(server.close)
    finally:
        server.close()
        shutil.rmtree(directory)


def kubeconfig(urls: dict[str, str]) -> dict[str, Any]:
    """A context for each of these servers."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(urls)),
        "clusters": [{"name": name, "cluster": {"server": url}} for name, url in urls.items()],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "u"}} for name in urls],
    }


async def test_check_asks_all_of_them_side_by_side_and_learns(lab: Lab) -> None:
    seconds, answer = await lab.call("POST", "/api/v1/check", {"infra": None})
    results = {result["infra"]: result for result in answer["results"]}
    assert seconds < 6
    assert len(results) == HANGING + 1
    assert (results["k8s/good"]["usable"], results["k8s/good"]["breaker"]) == (True, "closed")
    assert results["k8s/good"]["accelerators"] == {"L4": 8}
    bad = results.pop("k8s/good") and list(results.values())
    assert all(not result["usable"] and result["reason"] and result["remedy"] for result in bad)
    assert {result["breaker"] for result in bad} == {"open"}
    seconds, answer = await lab.call("POST", "/api/v1/check", {"infra": None})
    assert seconds < 1, "the breakers are open: everybody knows"
    assert [result["infra"] for result in answer["results"] if result["usable"]] == ["k8s/good"]
    page = await lab.metrics()
    assert 'whimbrel_infra_breaker{infra="k8s/hang7",state="open"} 1' in page
    assert 'whimbrel_infra_breaker{infra="k8s/good",state="closed"} 1' in page
    _, info = await lab.call("GET", "/api/v1/info")
    assert info["infras"]["k8s/hang0"]["breaker"] == "open"
    assert info["infras"]["k8s/hang0"]["reason"]
    assert info["infras"]["k8s/good"]["breaker"] == "closed"


async def test_accelerators_of_the_healthy_one_are_shown_beside_a_line_for_each_that_hangs(lab: Lab) -> None:
    seconds, answer = await lab.call("POST", "/api/v1/gpus", {"infra": None})
    assert seconds < 3
    infras = {one["infra"]: one for one in answer["infras"]}
    assert [(one["node"], one["free"]) for one in infras.pop("k8s/good")["machines"]] == [
        ("m0", 4),
        ("m1", 4),
    ]
    assert all(one["error"] and not one["machines"] for one in infras.values())
    assert len(infras) == HANGING


async def test_a_plan_for_the_healthy_one_asks_nobody_else(lab: Lab) -> None:
    wanted = task("true")
    wanted["resources"]["infra"] = "k8s/good"
    _, answer = await lab.call("POST", "/api/v1/plan", {"task": wanted, "cluster": None})
    assert [offer["infra"] for offer in answer["offers"]] == ["k8s/good"]
    _, info = await lab.call("GET", "/api/v1/info")
    assert list(info["infras"]) == ["k8s/good"], "no other guard was even made"


async def test_reads_and_the_healthy_one_go_on_while_many_are_stuck_in_the_others(lab: Lab) -> None:
    """Which of them is slower by how much is the benchmark's to say; here they share no limiter, thread or lock."""
    stuck = [
        asyncio.create_task(lab.call("POST", "/api/v1/check", {"infra": [f"k8s/hang{number % HANGING}"]}))
        for number in range(50)
    ]
    await asyncio.sleep(0)
    for _ in range(10):
        assert (await lab.call("GET", "/healthz"))[1] == {"status": "ok"}
        assert (await lab.call("GET", "/api/v1/clusters"))[1]["clusters"] == []
    _, answer = await lab.call("POST", "/api/v1/check", {"infra": ["k8s/good"]})
    assert answer["results"][0]["usable"]
    assert not any(one.done() for one in stuck), "all that went on while they were stuck"
    assert all(not answer["results"][0]["usable"] for _, answer in await asyncio.gather(*stuck))


async def test_a_kubeconfig_is_read_again_when_it_changes_and_what_it_hides_is_told(lab: Lab) -> None:
    text = lab.kubeconfig.read_text()
    lab.kubeconfig.write_text("contexts: [\n")
    _, answer = await lab.call("POST", "/api/v1/gpus", {"infra": None})
    assert f"{lab.kubeconfig}:2:1" in answer["errors"][0]["message"]
    other = lab.kubeconfig.with_name("other")
    other.write_text(text)
    lab.kubeconfig.write_text(text)
    paths = f"{lab.kubeconfig}:{other}:{lab.kubeconfig.with_name('absent')}"
    headers = {"X-Whimbrel-Kubeconfig": paths}
    answer = await asyncio.to_thread(
        lambda: lab.server.http.call("POST", "/api/v1/check", {"infra": ["k8s/good"]}, headers=headers)
    )
    assert answer["results"][0]["usable"]
    said = "\n".join(error["message"] for error in answer["errors"])
    assert f"The context 'good' of {other} is hidden by the one of the same name in {lab.kubeconfig}" in said
    assert "absent is named in KUBECONFIG and does not exist" in said


async def test_deadlines_come_from_the_configuration_file_and_are_read_again(lab: Lab) -> None:
    config = lab.server.home / "config.yaml"
    config.write_text("kubernetes: {context_configs: {hang0: {deadlines: {probe: 0.3}}}}\n")
    seconds, _ = await lab.call("POST", "/api/v1/check", {"infra": ["k8s/hang0"]})
    assert seconds < 1.5
    config.write_text("kubernetes: {deadlines: {probe: 0.3}}\n")
    seconds, _ = await lab.call("POST", "/api/v1/check", {"infra": ["k8s/hang1"]})
    assert seconds < 1.5
    config.write_text("kubernetes: {deadlines: {prob: 0.3}}\n")
    seconds, answer = await lab.call("POST", "/api/v1/check", {"infra": ["k8s/hang2"]})
    assert f"{config}:1:" in answer["errors"][0]["message"]
    assert seconds < 1.5, "what the file said last holds while it is broken"
