"""What users wait for, as medians, beside the figures to reach: `python benchmarks/run.py [--runs N] [PART...]`.

Everything runs in a home of its own that is removed at the end. Each row says how many runs it is the median of.
"""

from __future__ import annotations

import argparse
import asyncio
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

import infra
import load
import targets

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
    goal: float | None
    more_is_better: bool = False

    @property
    def verdict(self) -> str:
        """Beside the goal, if there is one."""
        if self.goal is None:
            return ""
        reached = self.median >= self.goal if self.more_is_better else self.median <= self.goal
        return "ok" if reached else "MISSED"


def _row(
    what: str, unit: str, values: list[float], goal: float | None, *, more_is_better: bool = False
) -> Row:
    median, low, high = statistics.median(values), min(values), max(values)
    return Row(what, unit, median, low, high, len(values), goal, more_is_better)


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


def fresh_clusters(runs: int) -> Iterator[Row]:
    """An empty cluster for a test inside a warm test run: from the call until a pod is accepted and listed."""
    from kubesim.cluster import pki
    from kubesim.testing import EmbeddedCluster
    from kubewire.resources import PODS

    pod = {"metadata": {"name": "bench"}, "spec": {"containers": [{"name": "main", "image": "busybox"}]}}
    ready, used, ended = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        files = pki.PkiFiles(Path(directory) / "pki")
        pki.make(files, "bench")
        EmbeddedCluster(files).close()  # the warm run has had one before
        for _ in range(runs):
            start = time.perf_counter()
            cluster = EmbeddedCluster(files)
            ready.append((time.perf_counter() - start) * 1000)
            cluster.client.create(PODS, pod, "default")
            assert len(cluster.client.list(PODS, "default").items) == 1
            used.append((time.perf_counter() - start) * 1000)
            ended.append(_seconds(cluster.close) * 1000)
    yield _row("fresh cluster in a test run", "ms", ready, 200)
    yield _row("fresh cluster in a test run, with its first pod", "ms", used, 200)
    yield _row("end of such a cluster", "ms", ended, None)


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


def broken_infra(home: Path, runs: int) -> Iterator[Row]:
    """`down` and `down --purge` where nothing answers."""
    found = infra.deletions(WHIM, KUBESIM, home, min(runs, 3))
    yield _row("down, the context hangs: refused", "s", found.refused, 10.0)
    yield _row("down --purge, the context hangs", "s", found.purged, 10.0)
    yield _row("down --purge, the same, breaker open", "s", found.purged_known, 2.0)
    yield _row("down --purge, the context is gone", "s", found.gone, 1.0)


def api_load(home: Path, binaries: tuple[str, str] | None) -> Iterator[Row]:
    """The load of 16 clients, 10,000 pods and 500 watchers."""
    goals = {"memory": 2000.0, "durable": 1200.0}
    for store, goal in goals.items():
        with targets.kubesim_target(KUBESIM, store) as target:
            yield from _load_on(target, goal)
    if binaries:
        with targets.real_target(*binaries, home) as target:
            yield from _load_on(target, None)


def _load_on(target: load.Target, creates: float | None) -> Iterator[Row]:
    name = target.name
    rates = [asyncio.run(load.creates_per_second(target, 3000, f"c{number}")) for number in range(3)]
    yield _row(f"{name}: creates by 16 clients", "/s", rates, creates, more_is_better=True)
    crowd = asyncio.run(load.fan_out(target, 1000))
    yield _row(f"{name}: 1,000 events to 500 watchers", "s", [crowd], 2.0)
    asyncio.run(load.fill(target, 10_000))
    lists = [asyncio.run(load.listing(target)) for _ in range(5)]
    size = f"{lists[0].megabytes:.0f} MB"
    yield _row(f"{name}: LIST of 10,000 pods, {size}", "s", [one.seconds for one in lists], 0.15)
    yield _row(f"{name}: the same, server CPU", "s", [one.server_cpu for one in lists], 0.05)
    yield _row(f"{name}: memory with 10,000 pods (PSS)", "MiB", [_pss_mib(target.pids())], 200)


def main() -> None:
    """Measure all rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="runs for each figure (default 7)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--kube-apiserver", metavar="PATH", help="run the load against this one as well")
    parser.add_argument("--etcd", metavar="PATH", help="the etcd for it")
    parser.add_argument(
        "parts", nargs="*", choices=["cli", "server", "cluster", "fresh", "job", "infra", "load", []]
    )
    options = parser.parse_args()
    if bool(options.kube_apiserver) != bool(options.etcd):
        parser.error("--kube-apiserver and --etcd go together")
    binaries = (options.kube_apiserver, options.etcd) if options.etcd else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    load_before = os.getloadavg()[0]
    rows: list[Row] = []
    with _home() as home:
        parts = {
            "cli": lambda: command_line(options.runs),
            "server": lambda: api_server(home, options.runs),
            "cluster": lambda: kubesim_cluster(home, options.runs),
            "fresh": lambda: fresh_clusters(options.runs),
            "job": lambda: main_job(options.runs),
            "infra": lambda: broken_infra(home, options.runs),
            "load": lambda: api_load(home, binaries),
        }
        for name in options.parts or parts:
            for row in parts[name]():
                rows.append(row)
                if not options.json:
                    goal = f"goal {row.goal:g}; " if row.goal is not None else ""
                    print(
                        f"{row.what:<54} {row.median:8.2f} {row.unit:<4} "
                        f"({goal}{row.low:.2f} to {row.high:.2f}, {row.runs} runs)  {row.verdict}",
                        flush=True,
                    )
    load_after = os.getloadavg()[0]
    if options.json:
        print(
            json.dumps(
                {
                    "cores": os.cpu_count(),
                    "load": [load_before, load_after],
                    "rows": [asdict(row) for row in rows],
                }
            )
        )
    else:
        print(
            f"{os.cpu_count()} cores; load {load_before:.1f} before, {load_after:.1f} after; "
            f"Python {sys.version.split()[0]}"
        )


if __name__ == "__main__":
    main()
