"""What users wait for, as medians, beside the figures to reach. `python benchmarks/run.py [--runs N] [--json]`.

Everything runs in a home of its own that is removed at the end. Each row says how many runs it is the median of.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
WHIM, KUBESIM = str(BIN / "whim"), str(BIN / "kubesim")


@dataclass(frozen=True)
class Row:
    """One figure: the median of `runs` runs, and what it should be."""

    what: str
    unit: str
    median: float
    low: float
    high: float
    runs: int
    goal: float


def _row(what: str, unit: str, values: list[float], goal: float) -> Row:
    return Row(what, unit, statistics.median(values), min(values), max(values), len(values), goal)


def _run(*argv: str, timeout: float = 120) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _until_line(argv: list[str], line: str) -> float:
    """Seconds from the start of a command until it prints a line; then it is waited for."""
    start = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        taken = next((time.perf_counter() - start for text in process.stdout if line in text), None)
        process.stdout.read()
    if taken is None or process.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {process.returncode} and did not print {line!r}")
    return taken


def _peak_mib(argv: list[str]) -> float:
    """Peak resident memory of a command, as the kernel accounts it for a child of a small process."""
    code = (
        "import os,sys,resource\n"
        "pid=os.fork()\n"
        "if pid==0:\n"
        "    null=os.open(os.devnull,os.O_RDWR); os.dup2(null,1); os.dup2(null,2); os.execv(sys.argv[1],sys.argv[1:])\n"
        "print(os.wait4(pid,0)[2].ru_maxrss)"
    )
    return int(_run(sys.executable, "-S", "-c", code, *argv)) / 1024


def _pss_mib(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def _processes_with(marker: str) -> list[int]:
    """Processes that name a directory in their command line or environment: all parts of one cluster."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if marker in (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@contextmanager
def _home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="whim-bench-", dir="/tmp"))
    os.environ.update(
        HOME=str(home),
        WHIMBREL_HOME=str(home / "whimbrel"),
        KUBESIM_HOME=str(home / "kubesim"),
        KUBECONFIG=str(home / "kubeconfig"),
    )
    os.environ.pop("XDG_RUNTIME_DIR", None)
    try:
        yield home
    finally:
        subprocess.run([WHIM, "local", "down", "-y"], capture_output=True, timeout=60)
        subprocess.run([WHIM, "api", "stop"], capture_output=True, timeout=60)
        subprocess.run(
            [KUBESIM, "delete", "cluster", "--name", "bench", "--force"], capture_output=True, timeout=60
        )
        shutil.rmtree(home, ignore_errors=True)


def command_line(runs: int) -> Iterator[Row]:
    """Cold commands."""
    _run(WHIM, "--help")
    values = [_seconds(lambda: _run(WHIM, "--help")) * 1000 for _ in range(runs)]
    yield _row("whim --help", "ms", values, 100)
    yield _row("whim --help, peak memory", "MiB", [_peak_mib([WHIM, "--help"]) for _ in range(3)], 40)
    _run(WHIM, "api", "start")
    _run(WHIM, "status")
    values = [_seconds(lambda: _run(WHIM, "status")) * 1000 for _ in range(runs)]
    yield _row("whim status, server running", "ms", values, 200)


def api_server(home: Path, runs: int) -> Iterator[Row]:
    """The API server from start until it answers, and what it holds."""
    from whimbrel.client import local

    starts, idle = [], []
    for _ in range(runs):
        _run(WHIM, "api", "stop")
        starts.append(_seconds(local.ensure))
        record = local.ensure()
        idle.append(_pss_mib([record.pid]))
    yield _row("API server, start until it answers", "s", starts, 1.0)
    yield _row("API server, memory idle (PSS)", "MiB", idle, 120)
    from whimbrel.client import sdk

    for _ in range(500):
        sdk.status()
    yield _row("API server, memory after 500 reads (PSS)", "MiB", [_pss_mib([local.ensure().pid])], 120)


def kubesim_cluster(home: Path, runs: int) -> Iterator[Row]:
    """A cluster from the key press until a pod is accepted."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bench"},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    }
    create, memory = [], []
    for _ in range(runs):
        start = time.perf_counter()
        _run(KUBESIM, "create", "cluster", "--name", "bench", "--wait", "30s")
        _create_pod("kubesim-bench", pod)
        create.append(time.perf_counter() - start)
        time.sleep(1)  # idle means idle
        memory.append(_pss_mib(_processes_with(str(home / "kubesim"))))
        _run(KUBESIM, "delete", "cluster", "--name", "bench")
    yield _row("kubesim create cluster until a pod is accepted", "s", create, 1.0)
    yield _row("kubesim, memory idle (PSS of all processes)", "MiB", memory, 120)


def _create_pod(context: str, pod: dict[str, object]) -> None:
    import asyncio

    from kubewire.client import Client
    from kubewire.http import HttpTransport
    from kubewire.kubeconfig import load
    from kubewire.resources import PODS

    async def create() -> None:
        client = Client(HttpTransport(load().connection(context)))
        try:
            await client.create(PODS, pod, "default")
        finally:
            await client.aclose()

    asyncio.run(create())


def main_job(runs: int) -> Iterator[Row]:
    """Launch and exec of an echo, until the line is on the screen."""
    nothing = []
    for index in range(max(3, runs // 2)):
        subprocess.run([WHIM, "local", "down", "-y"], capture_output=True, timeout=60)
        _run(WHIM, "api", "stop")
        nothing.append(
            _until_line([WHIM, "launch", "-y", "-c", f"n{index}", "echo line-$((40+2))"], "line-42")
        )
    yield _row("launch of echo, nothing running at all", "s", nothing, 5.0)
    fresh = []
    for index in range(runs):
        name = f"f{index}"
        fresh.append(_until_line([WHIM, "launch", "-y", "-c", name, "echo line-$((40+2))"], "line-42"))
        _run(WHIM, "down", "-y", name)
    yield _row("launch of echo, new cluster, server and Kubernetes up", "s", fresh, 1.5)
    _run(WHIM, "launch", "-y", "-c", "bench", "true")
    again = [
        _until_line([WHIM, "launch", "-y", "-c", "bench", "echo line-$((40+2))"], "line-42")
        for _ in range(runs)
    ]
    yield _row("launch of echo, cluster up", "s", again, 1.5)
    values = [_until_line([WHIM, "exec", "bench", "echo line-$((40+2))"], "line-42") for _ in range(runs)]
    yield _row("exec of echo", "s", values, 0.7)


def main() -> None:
    """Measure all rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="runs for each figure (default 7)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    load = os.getloadavg()[0]
    rows: list[Row] = []
    with _home() as home:
        for part in (
            command_line(options.runs),
            api_server(home, options.runs),
            kubesim_cluster(home, options.runs),
            main_job(options.runs),
        ):
            for row in part:
                rows.append(row)
                if not options.json:
                    mark = "ok" if row.median <= row.goal else "ABOVE"
                    print(
                        f"{row.what:<54} {row.median:8.2f} {row.unit:<4} "
                        f"(goal {row.goal:g}; {row.low:.2f} to {row.high:.2f}, {row.runs} runs)  {mark}",
                        flush=True,
                    )
    load_after = os.getloadavg()[0]
    if options.json:
        print(
            json.dumps(
                {"cores": os.cpu_count(), "load": [load, load_after], "rows": [asdict(row) for row in rows]}
            )
        )
    else:
        print(
            f"{os.cpu_count()} cores; load {load:.1f} before, {load_after:.1f} after; Python {sys.version.split()[0]}"
        )


if __name__ == "__main__":
    main()
