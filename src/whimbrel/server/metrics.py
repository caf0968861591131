"""What the server counts, as Prometheus reads it (text format 0.0.4), written by hand: no dependency for 100 lines.

Requests are measured until their answer begins, because some answers are streams that last for days.
"""

from __future__ import annotations

import contextlib
import os
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whimbrel.infra.guard import GuardView
from whimbrel.server.watchdog import Watchdog

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STATES = ("closed", "half-open", "open")


class Requests:
    """Requests by route and status, and how long their answers took to begin."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, int]] = Counter()
        self.buckets: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}
        self.running = 0

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one."""
        self.counts[method, route, status] += 1
        row = self.buckets.setdefault(route, [0] * (len(BUCKETS) + 1))
        row[bisect_left(BUCKETS, seconds)] += 1
        self.seconds[route] = self.seconds.get(route, 0.0) + seconds


class Measured:
    """Around the application."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count it when its answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._note(scope, status, began)
            await send(message)

        self._requests.running += 1
        try:
            await self._app(scope, receive, counted)
        finally:
            self._requests.running -= 1
            if not status:
                self._note(scope, 0, began)

    def _note(self, scope: Scope, status: int, began: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._requests.note(scope["method"], route, status, time.perf_counter() - began)


def render(
    requests: Requests, work: Mapping[str, int], guards: Mapping[str, GuardView], watchdog: Watchdog
) -> str:
    """The page."""
    lines = [
        *_requests(requests),
        *_metric("requests", "gauge", "Durable requests by state.", _by("state", work)),
        *_guards(guards),
        *_loop(watchdog),
        *_process(),
    ]
    return "\n".join(lines) + "\n"


def process() -> dict[str, float]:
    """What this process holds; what cannot be known on this system is left out."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        found["resident_memory_bytes"] = pages * os.sysconf("SC_PAGE_SIZE")
        found["threads"] = len(os.listdir("/proc/self/task"))
        found["open_fds"] = len(os.listdir("/proc/self/fd"))
    found["cpu_seconds_total"] = time.process_time()
    return found


def _requests(requests: Requests) -> Iterable[str]:
    counts = {
        f'method="{method}",route="{_escaped(route)}",status="{status}"': count
        for (method, route, status), count in sorted(requests.counts.items())
    }
    yield from _metric("http_requests_total", "counter", "HTTP requests; status 0: no answer.", counts)
    yield from _metric("http_requests_running", "gauge", "HTTP requests at present.", {"": requests.running})
    name = "whimbrel_http_seconds"
    yield f"# HELP {name} Seconds until an answer began."
    yield f"# TYPE {name} histogram"
    for route, row in sorted(requests.buckets.items()):
        label, total = f'route="{_escaped(route)}"', 0
        for bound, count in zip((*BUCKETS, "+Inf"), row, strict=True):
            total += count
            yield f'{name}_bucket{{{label},le="{bound}"}} {total}'
        yield f"{name}_sum{{{label}}} {requests.seconds[route]:.6f}"
        yield f"{name}_count{{{label}}} {total}"


def _guards(guards: Mapping[str, GuardView]) -> Iterable[str]:
    states = {
        f'infra="{_escaped(name)}",state="{state}"': int(view.state == state)
        for name, view in guards.items()
        for state in _STATES
    }
    yield from _metric(
        "infra_breaker", "gauge", "The circuit breaker of each infra: 1 for its state.", states
    )
    for field, suffix, text in (
        ("calls", "", "Calls to an infra at present."),
        ("streams", "", "Streams to an infra at present."),
        ("answered", "_total", "Calls that were answered."),
        ("failed", "_total", "Calls that were not answered."),
        ("spared", "_total", "Calls that the breaker kept from waiting."),
    ):
        values = {f'infra="{_escaped(name)}"': getattr(view, field) for name, view in guards.items()}
        yield from _metric(f"infra_{field}{suffix}", "counter" if suffix else "gauge", text, values)


def _loop(watchdog: Watchdog) -> Iterable[str]:
    for name, text, seconds in (
        ("loop_lag_seconds", "How late the event loop's last tick was.", watchdog.last.seconds),
        ("loop_longest_stall_seconds", "Its longest stall since the start.", watchdog.longest.seconds),
        ("loop_longest_stall_cpu_seconds", "Of which it computed itself.", watchdog.longest.cpu),
        (
            "loop_longest_stall_recent_seconds",
            "Its longest stall of the last minute or two.",
            watchdog.recent.seconds,
        ),
    ):
        yield from _metric(name, "gauge", text, {"": round(seconds, 6)})


def _process() -> Iterable[str]:
    for name, value in process().items():
        kind = "counter" if name.endswith("_total") else "gauge"
        yield f"# TYPE process_{name} {kind}"
        yield f"process_{name} {value}"


def _by(label: str, counts: Mapping[str, int]) -> dict[str, float]:
    return {f'{label}="{_escaped(str(key))}"': count for key, count in counts.items()}


def _metric(name: str, kind: str, text: str, values: Mapping[str, float]) -> Iterable[str]:
    yield f"# HELP whimbrel_{name} {text}"
    yield f"# TYPE whimbrel_{name} {kind}"
    for labels, value in values.items():
        yield f"whimbrel_{name}{{{labels}}} {value}" if labels else f"whimbrel_{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
