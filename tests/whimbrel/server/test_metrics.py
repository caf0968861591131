"""What the server says of itself: to Prometheus, and to `whim api info`."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

from conftest import Server
from whimbrel.infra.guard import GuardView
from whimbrel.server.metrics import Requests, render
from whimbrel.server.watchdog import LOUD, TICK, WINDOW, Stall, Watchdog

LINE = re.compile(r'[a-z_]+(\{([a-z]+="([^"\\\n]|\\.)*",?)*\})? -?[0-9.e+-]+')


def test_the_page_counts_requests_by_route_and_is_what_prometheus_reads(server: Server) -> None:
    for _ in range(3):
        server.get("clusters")
    server.launch("c1", "true")
    page = b"".join(server.http.download("/metrics")).decode()
    for line in page.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or LINE.fullmatch(line), line
    assert 'whimbrel_http_requests_total{method="GET",route="/api/v1/clusters",status="200"} 3' in page
    assert 'whimbrel_http_seconds_count{route="/api/v1/clusters"} 3' in page
    assert 'route="/api/v1/clusters/{name}/launch",status="202"} 1' in page
    assert re.search(r"^process_threads \d+$", page, re.MULTILINE)
    assert re.search(r'^whimbrel_requests\{state="\w+"\} 1$', page, re.MULTILINE)


def test_info_tells_the_loops_lag_and_what_the_process_holds(server: Server) -> None:
    info = server.get("info")
    assert info["loop"]["longest_stall"] >= info["loop"]["lag"] >= 0
    assert info["process"]["open_fds"] > 0
    assert info["infras"] == {}


@pytest.mark.anyio
async def test_a_call_that_blocks_the_loop_is_measured() -> None:
    watchdog = Watchdog()
    running = asyncio.create_task(watchdog.run(), name="watchdog")
    await asyncio.sleep(TICK / 2)
    time.sleep(3 * TICK)  # noqa: ASYNC251
    async with asyncio.timeout(10):
        await asyncio.sleep(TICK)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert watchdog.longest.cpu < watchdog.longest.seconds, "it slept: that was no computing"


def test_the_longest_stall_of_late_is_forgotten_after_a_while_and_the_longest_ever_is_not() -> None:
    now = 1000.0
    watchdog = Watchdog(clock=lambda: now)
    watchdog.note(Stall(0.2, 0.1))
    for _ in range(3):
        now += WINDOW + 1
        watchdog.note(Stall(0.01, 0.0))
    assert (watchdog.recent.seconds, watchdog.longest.seconds, watchdog.last.seconds) == (0.01, 0.2, 0.01)


def test_only_a_stall_of_our_own_making_is_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    watchdog = Watchdog()
    watchdog.note(Stall(5.0, 0.01))
    assert caplog.text == ""
    watchdog.note(Stall(2 * LOUD, 2 * LOUD))
    assert "did not turn for 0.50 s" in caplog.text


def test_names_of_contexts_cannot_break_the_page() -> None:
    guards = {'k8s/a"b\\c\nd': GuardView(state="open", failed=2)}
    page = render(Requests(), {}, guards, Watchdog())
    assert 'whimbrel_infra_failed_total{infra="k8s/a\\"b\\\\c\\nd"} 2' in page
    assert all(line.startswith("# ") or LINE.fullmatch(line) for line in page.splitlines())
