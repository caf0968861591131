"""Places by name: what there is, what is meant, and what is said when there is no such thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from whimbrel.infra.registry import Infras
from whimbrel.model.errors import ContextNotFound, KubeconfigInvalid

pytestmark = pytest.mark.anyio


@pytest.fixture
def infras() -> Infras:
    """A registry; no call is made with it."""
    return Infras(["sh"])


async def test_a_context_is_one_infra_however_often_it_is_asked_for(infras: Infras, kubeconfig: Path) -> None:
    assert infras.get("k8s/fake", [kubeconfig]) is infras.get("kubernetes/fake", [str(kubeconfig)])
    await infras.aclose()


async def test_two_kubeconfigs_with_the_same_context_are_two_infras(
    infras: Infras, kubeconfig: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text(kubeconfig.read_text())
    assert infras.get("k8s/fake", [kubeconfig]) is not infras.get("k8s/fake", [other])
    await infras.aclose()


@pytest.mark.parametrize("name", ["k8s/nope", "aws", "k8s/", "nonsense"])
async def test_what_is_not_there_is_refused_with_what_is(infras: Infras, kubeconfig: Path, name: str) -> None:
    with pytest.raises(ContextNotFound, match="fake") as caught:
        infras.get(name, [kubeconfig])
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
        infras.get("k8s/fake", [kubeconfig])
    kubeconfig.write_text(good)
    assert infras.get("k8s/fake", [kubeconfig]).name == "k8s/fake"
    await infras.aclose()


async def test_the_embedded_kubernetes_has_small_nodes(infras: Infras) -> None:
    assert infras.default_shape("k8s/kubesim-local").cpus == 0.1
    assert infras.default_shape("k8s/anything").cpus == 2.0


async def test_check_of_a_place_that_is_not_there_is_an_answer(infras: Infras, kubeconfig: Path) -> None:
    [check] = await infras.check(["k8s/nope"], [kubeconfig])
    assert (check.infra, check.usable) == ("k8s/nope", False)
    assert "fake" in check.reason


async def test_a_context_without_a_cluster_is_told_as_incomplete(infras: Infras, kubeconfig: Path) -> None:
    kubeconfig.write_text(kubeconfig.read_text().replace("cluster: c, ", "cluster: gone, "))
    [check] = await infras.check(None, [kubeconfig])
    assert "gone" in check.reason
    assert check.remedy
    await infras.aclose()
