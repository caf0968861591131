"""How long `whim down` and `whim down --purge` take where the infrastructure hangs or is gone: of the whole command.

Clusters are made on a real kubesim through one context each, so that each has a breaker of its own. Then the contexts
are pointed at an endpoint that accepts and never answers, or are taken out of the kubeconfig.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNREACHABLE = 6
PARTS = ("hang", "fresh", "gone")


@dataclass(frozen=True)
class Deletions:
    """Seconds of each run, by what was done."""

    refused: list[float]  # down, the context hangs
    purged_known: list[float]  # down --purge right after it: the breaker is open
    purged: list[float]  # down --purge, the context hangs, and nobody knows yet
    gone: list[float]  # down --purge, the context is gone


def deletions(whim: str, kubesim: str, home: Path, runs: int) -> Deletions:
    """Measure them, each `runs` times."""
    kubeconfig = home / "kubeconfig"
    _done([kubesim, "create", "cluster", "--name", "bench", "--process-node", "--wait", "60s"])
    config = json.loads(
        _done([kubesim, "kubectl", "--name", "bench", "config", "view", "--raw", "-o", "json"])
    )
    names = [f"{part}-{number}" for part in PARTS for number in range(runs)]
    healthy = _contexts(config, names, None)
    kubeconfig.write_text(json.dumps(healthy))
    for name in names:
        _done(
            [whim, "launch", "-y", "-d", "-c", name, "--infra", f"k8s/{name}", "--cpus", "0.01", "sleep 600"]
        )
    found = Deletions([], [], [], [])
    with _silent() as port:
        there = [name for name in names if not name.startswith("gone")]
        kubeconfig.write_text(json.dumps(_contexts(config, there, f"https://127.0.0.1:{port}")))
        for number in range(runs):
            found.refused.append(_seconds([whim, "down", "-y", f"hang-{number}"], UNREACHABLE))
            found.purged_known.append(_seconds([whim, "down", "-y", "--purge", f"hang-{number}"], 0))
            found.purged.append(_seconds([whim, "down", "-y", "--purge", f"fresh-{number}"], 0))
            found.gone.append(_seconds([whim, "down", "-y", "--purge", f"gone-{number}"], 0))
    kubeconfig.write_text(json.dumps(healthy))
    _done([whim, "reap", "-y"])
    _done([kubesim, "delete", "cluster", "--name", "bench"])
    return found


def _contexts(config: dict[str, Any], names: list[str], server: str | None) -> dict[str, Any]:
    """A kubeconfig with these contexts, all of them of the same cluster, or of another server."""
    cluster = dict(config["clusters"][0]["cluster"])
    if server is not None:
        cluster["server"] = server
    user = config["users"][0]["user"]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in names],
    }


def _done(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _seconds(argv: list[str], code: int) -> float:
    begun = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    seconds = time.perf_counter() - begun
    if done.returncode != code:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}, not {code}:\n{done.stderr}")
    return seconds


@contextmanager
def _silent() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, name="silent endpoint", daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
        for connection in held:
            connection.close()
