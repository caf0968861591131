"""Places by name: what there is, what is meant, and what is said when there is no such thing."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from kubewire.client import Client
from kubewire.connection import Connection
from kubewire.kubeconfig import in_cluster
from whimbrel.infra.kubernetes import connection
from whimbrel.infra.kubernetes.contexts import Contexts
from whimbrel.infra.kubernetes.settings import KubernetesSettings
from whimbrel.infra.registry import Infras
from whimbrel.model.configreader import read_config
from whimbrel.model.errors import ContextNotFound, KubeconfigInvalid

from .fake_api import FakeApi

pytestmark = pytest.mark.anyio


@pytest.fixture
def infras() -> Infras:
    """A registry; no call is made with it."""
    return Infras(["sh"])


async def test_a_context_is_one_infra_however_often_it_is_asked_for(infras: Infras, kubeconfig: Path) -> None:
    assert await infras.get("k8s/fake", [kubeconfig]) is await infras.get(
        "kubernetes/fake", [str(kubeconfig)]
    )
    await infras.aclose()


async def test_two_kubeconfigs_with_the_same_context_are_two_infras(
    infras: Infras, kubeconfig: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text(kubeconfig.read_text())
    assert await infras.get("k8s/fake", [kubeconfig]) is not await infras.get("k8s/fake", [other])
    await infras.aclose()


@pytest.mark.parametrize("name", ["k8s/nope", "aws", "k8s/", "nonsense"])
async def test_what_is_not_there_is_refused_with_what_is(infras: Infras, kubeconfig: Path, name: str) -> None:
    with pytest.raises(ContextNotFound, match="fake") as caught:
        await infras.get(name, [kubeconfig])
    assert caught.value.remedy


async def test_none_means_the_current_context_or_nothing(
    infras: Infras, kubeconfig: Path, tmp_path: Path
) -> None:
    assert await infras.candidates(None, [kubeconfig]) == ["k8s/fake"]
    assert await infras.candidates(None, [tmp_path / "absent"]) == []


async def test_local_needs_no_kubeconfig(infras: Infras, tmp_path: Path) -> None:
    assert await infras.candidates("local", [tmp_path / "absent"]) == ["k8s/kubesim-local"]


async def test_k8s_without_a_current_context_lists_those_there_are(infras: Infras, kubeconfig: Path) -> None:
    kubeconfig.write_text(kubeconfig.read_text().replace("current-context: fake\n", ""))
    with pytest.raises(ContextNotFound, match="contexts there: fake"):
        await infras.candidates("k8s", [kubeconfig])


async def test_a_broken_kubeconfig_is_named_and_mended_without_a_restart(
    infras: Infras, kubeconfig: Path
) -> None:
    good = kubeconfig.read_text()
    kubeconfig.write_text("a: [")
    with pytest.raises(KubeconfigInvalid, match=str(kubeconfig)):
        await infras.get("k8s/fake", [kubeconfig])
    kubeconfig.write_text(good)
    assert (await infras.get("k8s/fake", [kubeconfig])).name == "k8s/fake"
    await infras.aclose()


async def test_a_kubeconfig_that_hangs_costs_only_who_names_it_and_that_once(
    infras: Infras, kubeconfig: Path, tmp_path: Path
) -> None:
    """A FIFO that nobody writes to is what a hung network file system looks like to whoever opens a file there."""
    hung = tmp_path / "hung"
    os.mkfifo(hung)
    slow = asyncio.create_task(infras.get("k8s/fake", [hung]))
    began = time.monotonic()
    assert (await infras.get("k8s/fake", [kubeconfig])).name == "k8s/fake"
    assert time.monotonic() - began < 1.0, "the event loop goes on, and so do other kubeconfigs"
    assert not slow.done()
    with pytest.raises(KubeconfigInvalid, match=r"hung.*longer than 2 s"):
        await slow
    began = time.monotonic()
    with pytest.raises(KubeconfigInvalid, match="stuck"):
        await infras.get("k8s/fake", [hung])
    assert time.monotonic() - began < 0.5, "the second one learns at once what the first one has waited for"
    hung.write_text("")  # the reader goes on: the file system answers again
    hung.unlink()
    hung.write_text(kubeconfig.read_text())
    while True:
        try:
            assert (await infras.get("k8s/fake", [hung])).name == "k8s/fake"
            break
        except KubeconfigInvalid:
            assert time.monotonic() - began < 10
            await asyncio.sleep(0.01)
    await infras.aclose()


async def test_a_kubeconfig_without_end_is_refused(infras: Infras) -> None:
    with pytest.raises(KubeconfigInvalid, match="16 MiB"):
        await infras.get("k8s/fake", ["/dev/zero"])


async def test_the_embedded_kubernetes_has_small_nodes(infras: Infras) -> None:
    assert infras.default_shape("k8s/kubesim-local").cpus == 0.1
    assert infras.default_shape("k8s/anything").cpus == 2.0


async def test_a_context_without_a_cluster_is_told_as_incomplete(infras: Infras, kubeconfig: Path) -> None:
    kubeconfig.write_text(kubeconfig.read_text().replace("cluster: c, ", "cluster: gone, "))
    check = await (await infras.get("k8s/fake", [kubeconfig])).check()
    assert "gone" in check.reason
    assert check.remedy
    await infras.aclose()


async def test_a_client_whose_kubeconfig_leads_elsewhere_is_closed_when_its_streams_have_ended(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RETIREMENT", 0.0)
    apis: list[FakeApi] = []
    original = kubeconfig.read_text()

    def opener(where: Connection, settings: KubernetesSettings) -> Client:
        apis.append(FakeApi())
        return Client(apis[-1], settings.deadlines)

    link = connection.Link(
        "k8s/fake", "fake", Contexts([kubeconfig]), KubernetesSettings(command=["sh"]), opener=opener
    )

    async def version() -> None:
        await link.call("asking its version", lambda client: client.version(), timeout=5)

    async with link.stream("a log"):
        for number in range(3):
            await version()
            kubeconfig.write_text(original.replace("127.0.0.1", f"127.0.0.{number + 2}"))
            os.utime(kubeconfig, ns=(number, number))
        await version()
        assert [api.closed for api in apis] == [False, True, True, False], "the first has a stream"
    await version()
    assert [api.closed for api in apis] == [True, True, True, False]
    assert not link._streams
    await link.aclose()


# ------------------------------------------------------------ what the configuration allows


async def test_k8s_means_the_allowed_contexts_in_their_order(kubeconfig: Path) -> None:
    infras = Infras(["sh"])
    config = read_config("kubernetes: {allowed_contexts: [gone, fake]}", "config.yaml")
    assert await infras.candidates("k8s", [kubeconfig], config) == ["k8s/gone", "k8s/fake"]
    assert await infras.candidates(None, [kubeconfig], config) == ["k8s/gone", "k8s/fake"]
    assert await infras.known([kubeconfig], config) == ["k8s/gone", "k8s/fake"]
    everything = read_config("kubernetes: {allowed_contexts: all}", "config.yaml")
    assert await infras.candidates("k8s", [kubeconfig], everything) == ["k8s/fake"]


async def test_a_context_that_is_not_allowed_is_refused_with_the_file_that_says_so(kubeconfig: Path) -> None:
    config = read_config("kubernetes: {allowed_contexts: [other]}", "config.yaml")
    with pytest.raises(
        ContextNotFound, match=r"k8s/fake is not among the contexts that config.yaml allows \(other\)"
    ):
        await Infras(["sh"]).candidates("k8s/fake", [kubeconfig], config)


async def test_in_a_pod_there_is_a_context_more_which_is_the_current_one_without_a_kubeconfig(
    tmp_path: Path, kubeconfig: Path
) -> None:
    account = tmp_path / "serviceaccount"
    account.mkdir()
    for name, text in (("token", "secret"), ("namespace", "research"), ("ca.crt", "")):
        (account / name).write_text(text)
    environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    alone = Contexts([tmp_path / "none"], pod=lambda: in_cluster(environ, account))
    assert (await alone.names(), await alone.current()) == (["in-cluster"], "in-cluster")
    found = await alone.connection("in-cluster")
    assert (found.server, found.namespace) == ("https://10.0.0.1:443", "research")
    both = Contexts([kubeconfig], pod=lambda: in_cluster(environ, account))
    assert (await both.names(), await both.current()) == (["fake", "in-cluster"], "fake")
    outside = Contexts([kubeconfig], pod=lambda: in_cluster({}, account))
    assert await outside.names() == ["fake"]
