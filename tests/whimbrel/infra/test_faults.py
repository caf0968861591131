"""Endpoints that are broken: each call ends within its bound with the right error, and nobody else is touched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubewire.deadlines import Deadlines
from kubewire.testing import broken
from whimbrel.infra.base import ClusterSpec
from whimbrel.infra.kubernetes.contexts import Contexts
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.infra.kubernetes.settings import KubernetesSettings
from whimbrel.model.errors import InfraError, NodeLost, Unavailable, Unreachable
from whimbrel.model.exitcodes import ExitCode

from .conftest import KUBECONFIG

pytestmark = pytest.mark.anyio

QUICK = Deadlines(probe=0.4, read=0.4, change=0.4, page=0.4, connect=0.3, stream_idle=0.5)


@asynccontextmanager
async def at(url: str, folder: Path) -> AsyncIterator[KubernetesInfra]:
    """An infra whose endpoint is this one."""
    path = folder / "broken"
    server = KUBECONFIG.replace("http://127.0.0.1:1", url)
    if url.startswith("https"):
        server = server.replace('"}}', '", insecure-skip-tls-verify: true}}')
    path.write_text(server)
    settings = KubernetesSettings(command=["sh"], deadlines=QUICK)
    infra = KubernetesInfra("fake", Contexts([path]), settings)
    try:
        yield infra
    finally:
        await infra.aclose()


@pytest.mark.parametrize(
    "kind", ["silent", "slow-tls", "unaccepted", "refused", "reset", "closed", "garbage", "html"]
)
async def test_a_broken_endpoint_costs_its_deadline_and_the_next_caller_nothing(
    kind: str, tmp_path: Path, one: ClusterSpec
) -> None:
    async with broken(kind) as url, at(url, tmp_path) as infra:
        started = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            await infra.observe(one)
        assert time.monotonic() - started < 5
        assert caught.value.message.startswith("k8s/fake")
        assert caught.value.remedy
        assert infra.breaker.state == "open"
        with pytest.raises(Unreachable, match="seen 0 s ago"):
            await infra.identity()


@pytest.mark.parametrize("kind", ["silent", "refused", "reset", "garbage"])
async def test_check_of_a_broken_endpoint_is_an_answer_with_a_remedy(kind: str, tmp_path: Path) -> None:
    async with broken(kind) as url, at(url, tmp_path) as infra:
        check = await infra.check()
    assert not check.usable
    assert check.reason
    assert check.remedy
    assert check.seconds < 5


@pytest.mark.parametrize("code", [401, 403, 429, 500, 503])
async def test_an_endpoint_that_answers_with_an_error_is_told_with_it(
    code: int, tmp_path: Path, one: ClusterSpec
) -> None:
    async with broken("status", code=code) as url, at(url, tmp_path) as infra:
        with pytest.raises(InfraError) as caught:
            await infra.observe(one)
    assert not isinstance(caught.value, Unreachable)
    assert caught.value.remedy


@pytest.mark.parametrize("code", [429, 500, 503])
@pytest.mark.parametrize(("headers", "when"), [({}, "in a moment"), ({"retry-after": "30"}, "in 30 s")])
async def test_an_endpoint_that_cannot_at_present_says_when_to_try_again(
    code: int, headers: dict[str, str], when: str, tmp_path: Path, one: ClusterSpec
) -> None:
    async with broken("status", code=code, headers=headers) as url, at(url, tmp_path) as infra:
        with pytest.raises(Unavailable, match=f"{code}") as caught:
            await infra.observe(one)
        assert caught.value.exit_code == ExitCode.UNREACHABLE
        assert caught.value.remedy == f"try again {when}"
        with pytest.raises(NodeLost):
            async with infra.node(one, 0).exec(["sh"]):
                raise AssertionError


async def test_remove_and_ensure_on_a_silent_endpoint_end(tmp_path: Path, one: ClusterSpec) -> None:
    async with broken("silent") as url, at(url, tmp_path) as infra:
        started = time.monotonic()
        with pytest.raises(Unreachable):
            await infra.remove(one, lambda text: None, 10)
        with pytest.raises(Unreachable):
            await infra.ensure(one, lambda text: None, 10)
        with pytest.raises(Unreachable):
            async with infra.node(one, 0).exec(["sh"]):
                raise AssertionError
        assert time.monotonic() - started < 5


async def test_hundreds_of_stuck_calls_end_together(tmp_path: Path, one: ClusterSpec) -> None:
    async with broken("silent") as url, at(url, tmp_path) as infra:
        started = time.monotonic()
        outcomes = await asyncio.gather(*(infra.observe(one) for _ in range(200)), return_exceptions=True)
        assert time.monotonic() - started < 8
    assert [outcome for outcome in outcomes if not isinstance(outcome, Unreachable)] == []
