"""Whatever is wrong with an endpoint, a call on it ends in time and says what it was."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from kubewire.client import Client
from kubewire.deadlines import Deadlines
from kubewire.errors import ServerError, StreamBroken, TooManyRequests, Unauthorized, Unreachable
from kubewire.resources import PODS
from kubewire.testing import KINDS, broken

pytestmark = pytest.mark.anyio

Make = Callable[..., Client]
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]

REASONS = {
    "silent": "timeout",
    "slow-tls": "timeout",
    "unaccepted": "timeout",
    "refused": "refused",
    "reset": "reset",
    "closed": "reset",
    "drip": "timeout",
    "garbage": "protocol",
    "html": "protocol",
    "truncated": "reset",
    "slow-pages": "timeout",
    "untrusted-certificate": "tls",
    "expired-certificate": "tls",
    "plain-on-tls": "tls",
    "dns": "dns",
}


async def test_every_kind_of_defect_is_covered_here() -> None:
    assert set(KINDS) - set(REASONS) == {"status", "dropping-watch"}


@pytest.mark.parametrize("kind", sorted(REASONS))
async def test_a_read_from_a_broken_endpoint_ends_in_time_with_the_reason(
    kind: str, client_for: Make, quick: Deadlines
) -> None:
    options = {"pause": 0.2} if kind == "drip" else {"pause": 30.0} if kind == "slow-pages" else {}
    async with broken(kind, **options) as url:
        client = client_for(url, quick if REASONS[kind] == "timeout" else None)
        started = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            await client.list(PODS, "default")
        assert time.monotonic() - started < 3.0
    assert caught.value.reason == REASONS[kind]
    assert url in caught.value.message
    assert caught.value.remedy


async def test_a_timeout_says_what_was_waited_for(client_for: Make, quick: Deadlines) -> None:
    async with broken("silent") as url:
        with pytest.raises(Unreachable, match="waiting for an answer"):
            await client_for(url, quick).version()
    async with broken("slow-tls") as url:
        with pytest.raises(Unreachable, match="in the TLS handshake"):
            await client_for(url, quick).version()
    async with broken("unaccepted") as url:
        with pytest.raises(Unreachable, match="while connecting"):
            await client_for(url, quick).version()
    async with broken("drip", pause=0.1) as url:
        with pytest.raises(Unreachable, match="reading the answer"):
            await client_for(url, quick).version()


async def test_a_head_that_drips_does_not_outlive_the_deadline(client_for: Make, quick: Deadlines) -> None:
    async with broken("drip", pause=0.05, head=True) as url:
        started = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            await client_for(url, quick).version()
        assert caught.value.reason == "timeout"
        assert time.monotonic() - started < 2.0


@pytest.mark.parametrize(
    "kind", ["silent", "slow-tls", "unaccepted", "refused", "reset", "closed", "garbage", "dns"]
)
async def test_a_stream_from_a_broken_endpoint_ends_in_time(
    kind: str, client_for: Make, quick: Deadlines
) -> None:
    async with broken(kind) as url:
        client = client_for(url, quick if REASONS[kind] == "timeout" else None)
        started = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            async for _ in client.logs("p", "default"):
                pass
        assert caught.value.reason == REASONS[kind]
        assert time.monotonic() - started < 3.0


@pytest.mark.parametrize(
    "kind", ["silent", "slow-tls", "unaccepted", "refused", "reset", "closed", "garbage", "dns"]
)
async def test_an_exec_on_a_broken_endpoint_ends_in_time(
    kind: str, client_for: Make, quick: Deadlines
) -> None:
    async with broken(kind) as url:
        client = client_for(url, quick if REASONS[kind] == "timeout" else None)
        started = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            async with client.exec("p", "default", ["true"]):
                pass
        assert caught.value.reason == REASONS[kind]
        assert time.monotonic() - started < 3.0


async def test_error_statuses_become_errors_of_their_own_class(client_for: Make) -> None:
    async with broken("status", code=401, reason="Unauthorized") as url:
        with pytest.raises(Unauthorized, match="told to answer 401"):
            await client_for(url).version()
    async with broken("status", code=429, reason="TooManyRequests", headers={"Retry-After": "7"}) as url:
        with pytest.raises(TooManyRequests) as caught:
            await client_for(url).version()
        assert caught.value.retry_after == 7.0
    async with broken("status", code=503, reason="ServiceUnavailable") as url:
        client = client_for(url)
        with pytest.raises(ServerError, match="told to answer 503"):
            async for _ in client.logs("p", "default"):
                pass
        with pytest.raises(ServerError, match="told to answer 503"):
            async with client.exec("p", "default", ["true"]):
                pass


async def test_an_answer_that_ends_before_its_end_is_broken(client_for: Make) -> None:
    async with broken("truncated") as url:
        with pytest.raises(StreamBroken, match="broke off"):
            async for _ in client_for(url).logs("p", "default"):
                pass


async def test_many_stuck_calls_end_together_and_leave_nothing_behind(
    client_for: Make, quick: Deadlines, eventually: Eventually
) -> None:
    async with broken("silent") as url:
        client = client_for(url, quick)
        tasks_before = len(asyncio.all_tasks())
        calls = [client.version() for _ in range(100)]
        started = time.monotonic()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - started < 5.0
        assert all(isinstance(answer, Unreachable) and answer.reason == "timeout" for answer in answers)
        await client.aclose()
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks_before)


async def test_a_healthy_server_is_not_slowed_by_a_broken_one(client_for: Make, quick: Deadlines) -> None:
    async with broken("silent") as dead, broken("status", code=404, reason="NotFound") as alive:
        stuck = asyncio.gather(
            *(client_for(dead, quick).version() for _ in range(20)), return_exceptions=True
        )
        healthy = client_for(alive)
        with pytest.raises(Exception, match="told to answer 404"):
            await healthy.version()
        assert not stuck.done()
        await stuck
