"""What one healthy Kubernetes costs while twenty others accept connections and never answer: rows of `run.py guard`.

The healthy one is a kubesim cluster with a process node and 1,000 GPU nodes, which are plain Node objects without a
kubelet. The others are listening sockets that read and say nothing, as a stopped kind cluster or a dropped VPN does;
they count who connects to them.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import yaml

HANGING = 20
NAMING = 50
GPU_NODES = 1000
CONTEXT = "kubesim-bench"
_ALL_OF_THEM = rf"{CONTEXT} +H100 +8 +{GPU_NODES // 2} +{4 * GPU_NODES}"
_SILENT = f"(?s){CONTEXT}.*hang19.* did not answer"

Figure = tuple[str, str, list[float], float | None]
"""What, unit, values, goal."""


class Silence:
    """A port that accepts connections and never says anything."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._held: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="silence", daemon=True)
        self._thread.start()

    @property
    def connections(self) -> int:
        """How many there were."""
        return len(self._held)

    def _accept(self) -> None:
        while True:
            try:
                self._held.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        """End the listener and what it holds."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for one in self._held:
            one.close()


def figures(home: Path, whim: str, kubesim: str, runs: int) -> Iterator[Figure]:
    """All of them."""
    yield "gpus list in a bare install", "ms", _bare(home, whim, runs), 200
    alone = Path(os.environ["KUBECONFIG"])
    subprocess.run(
        [kubesim, "create", "cluster", "--name", "bench", "--process-node", "--wait", "30s"],
        check=True,
        capture_output=True,
    )
    subprocess.run([whim, "api", "start"], check=True, capture_output=True)
    dry = [whim, "launch", "--dryrun", "--infra", f"k8s/{CONTEXT}", "--cpus", "1", "echo hi"]
    asyncio.run(_gpu_nodes(alone))
    yield from _accelerators(whim, runs)
    before = [_seconds(dry, prints=CONTEXT) for _ in range(runs)]
    with _hanging(home, alone) as silences:
        yield from _check_and_list(whim)
        with _stuck():
            yield from _reads()
            beside = [_seconds(dry, prints=CONTEXT) for _ in range(runs)]
        yield "launch --dryrun for a healthy context", "s", before, None
        median = sorted(before)[len(before) // 2]
        yield "the same beside 20 hanging ones, 50 requests in them", "s", beside, median + 0.2
        _settle()
        count = sum(one.connections for one in silences)
        subprocess.run([*dry[:-1], str(_task_with_ports(home))], capture_output=True, timeout=60)
        after = sum(one.connections for one in silences)
        yield "connections to hanging ones while ports are validated", "", [float(after - count)], 0
    yield "the loop's longest stall through all of this", "ms", [_stall() * 1000], 100


def _bare(home: Path, whim: str, runs: int) -> list[float]:
    bare = home / "bare"
    bare.mkdir()
    env = {"HOME": str(bare), "PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return [_seconds([whim, "gpus", "list"], env, prints="MI300X") * 1000 for _ in range(runs + 1)][1:]


def _accelerators(whim: str, runs: int) -> Iterator[Figure]:
    fresh = []
    for _ in range(min(runs, 3)):
        subprocess.run([whim, "api", "stop"], check=True, capture_output=True)
        subprocess.run([whim, "api", "start"], check=True, capture_output=True)
        fresh.append(_seconds([whim, "gpus", "list"], prints=_ALL_OF_THEM))
    cached = [_seconds([whim, "gpus", "list"], prints=_ALL_OF_THEM) * 1000 for _ in range(runs)]
    yield f"gpus list, {GPU_NODES} GPU nodes, fresh", "s", fresh, 2.0
    yield f"gpus list, {GPU_NODES} GPU nodes, cached", "ms", cached, 300


def _check_and_list(whim: str) -> Iterator[Figure]:
    yield "check, 20 of 21 hanging", "s", [_seconds([whim, "check"], prints=_SILENT)], 6.0
    yield "the same, breakers open", "s", [_seconds([whim, "check"], prints=_SILENT)], 1.0
    _settle()
    yield "gpus list, 20 of 21 hanging", "s", [_seconds([whim, "gpus", "list"], prints=_SILENT)], 3.0
    yield "the same, breakers open", "s", [_seconds([whim, "gpus", "list"], prints=_SILENT)], 1.0


def _reads() -> Iterator[Figure]:
    """Latency of reads, seen by one client that asks without a pause worth mentioning."""
    from whimbrel.client import local
    from whimbrel.client.http import Http

    server = Http(local.ensure().socket)
    health, status = [], []
    for _ in range(300):
        health.append(_took(lambda: server.call("GET", "/healthz")) * 1000)
        status.append(_took(lambda: server.call("GET", "/api/v1/clusters")) * 1000)
        time.sleep(0.005)
    yield "API health, p99, 50 requests in hanging contexts", "ms", [_p99(health)], 50
    yield "API status, p99, the same", "ms", [_p99(status)], 50


@contextmanager
def _stuck() -> Iterator[None]:
    """Fifty requests at any time that name the hanging contexts."""
    from whimbrel.client import local
    from whimbrel.client.http import Http
    from whimbrel.model.errors import WhimError

    server, over = Http(local.ensure().socket), threading.Event()

    def name_them(number: int) -> None:
        while not over.is_set():
            try:
                server.call("POST", "/api/v1/check", {"infra": [f"k8s/hang{number % HANGING}"]})
            except WhimError:
                pass
            over.wait(0.2)  # a person or a script: not a flood of errors that the breakers answer at once

    with ThreadPoolExecutor(NAMING) as threads:
        for number in range(NAMING):
            threads.submit(name_them, number)
        time.sleep(0.5)
        try:
            yield
        finally:
            over.set()


@contextmanager
def _hanging(home: Path, alone: Path) -> Iterator[list[Silence]]:
    """Contexts hang0 to hang19 beside the healthy one, in a second kubeconfig."""
    silences = [Silence() for _ in range(HANGING)]
    names = [f"hang{number}" for number in range(HANGING)]
    clusters = [
        {
            "name": name,
            "cluster": {"server": f"https://127.0.0.1:{one.port}", "insecure-skip-tls-verify": True},
        }
        for name, one in zip(names, silences, strict=True)
    ]
    contexts = [{"name": name, "context": {"cluster": name, "user": "nobody"}} for name in names]
    users = [{"name": "nobody", "user": {"token": "t"}}]
    both = home / "with-hanging"
    both.write_text(yaml.safe_dump({"clusters": clusters, "contexts": contexts, "users": users}))
    os.environ["KUBECONFIG"] = f"{alone}{os.pathsep}{both}"
    try:
        yield silences
    finally:
        os.environ["KUBECONFIG"] = str(alone)
        for one in silences:
            one.close()


async def _gpu_nodes(kubeconfig: Path) -> None:
    from kubewire.opening import open_client
    from kubewire.resources import NODES

    room = {"cpu": "96", "memory": "768Gi", "pods": "110", "nvidia.com/gpu": "8"}
    async with open_client(CONTEXT, paths=[kubeconfig]) as client:
        turns = asyncio.Semaphore(16)

        async def make(number: int) -> None:
            product = ("NVIDIA-H100-80GB-HBM3", "NVIDIA-L4")[number % 2]
            labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": "81559"}
            body = {
                "metadata": {"name": f"gpu-{number:04}", "labels": labels},
                "status": {
                    "capacity": room,
                    "allocatable": room,
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
            async with turns:
                await client.create(NODES, body)

        await asyncio.gather(*(make(number) for number in range(GPU_NODES)))


def _task_with_ports(home: Path) -> Path:
    path = home / "ports.yaml"
    path.write_text("resources: {ports: [8080, '9000-9010']}\nrun: echo hi\n")
    return path


def _settle() -> None:
    """Until no breaker is open any more, so that what follows does not profit from what is known."""
    from whimbrel.client import sdk

    def open_ones() -> list[str]:
        infras = (sdk.api_info() or {"infras": {}})["infras"]
        return [name for name, state in infras.items() if state["breaker"] == "open"]

    deadline = time.monotonic() + 120
    while open_ones() and time.monotonic() < deadline:
        time.sleep(0.2)


def _stall() -> float:
    from whimbrel.client import sdk

    return float((sdk.api_info() or {})["loop"]["longest_stall"])


def _seconds(argv: list[str], env: dict[str, str] | None = None, *, prints: str) -> float:
    """Of a command that does what it should: a wrong answer is no fast one."""
    began = time.perf_counter()
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=120, env=env, stdin=subprocess.DEVNULL
    )
    taken = time.perf_counter() - began
    if done.returncode or not re.search(prints, done.stdout + done.stderr):
        raise SystemExit(f"{argv} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return taken


def _took(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]
