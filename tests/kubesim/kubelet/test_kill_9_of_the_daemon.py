"""`kill -9` of the whole daemon: its containers go on, and the next daemon takes them over."""

from __future__ import annotations

import asyncio
import selectors
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kubesim.store import open_store

from .conftest import DEADLINE, eventually
from .nodecluster import NodeCluster, main_state

pytestmark = pytest.mark.anyio
SCRIPT = Path(__file__).with_name("killed_daemon.py")


async def test_containers_outlive_the_daemon_and_are_adopted_with_their_logs_and_exit_codes(
    root: Path,
) -> None:
    store_folder, node_folder = root / "store", root / "node"
    store_folder.mkdir()
    await asyncio.to_thread(_run_and_kill_a_daemon, store_folder, node_folder)
    folders = {
        path.parents[3].name: path.parent for path in node_folder.glob("pods/*/containers/main/0/state.json")
    }
    assert len(folders) == 2
    for folder in folders.values():
        (folder / "root" / "go").touch()
    await eventually(
        lambda: list(node_folder.glob("pods/*/containers/main/0/exit.json")), "the one ends unwatched"
    )

    store = open_store("durable", store_folder)
    cluster = NodeCluster(node_folder, store)
    await cluster.open()
    try:
        before = await cluster.get("runs")
        assert before["status"]["phase"] == "Running"
        await cluster.start_kubelet()
        ended = await cluster.until_phase("ends", "Failed")
        assert main_state(ended)["terminated"]["exitCode"] == 6
        assert await cluster.logs("ends") == "last\n"
        after = await cluster.get("runs")
        assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
        assert await cluster.logs("runs") == "before\nafter\n"
        assert await cluster.run("runs", "echo", "adopted") == (0, "adopted\n")
    finally:
        await cluster.close()
        await store.close()


def _run_and_kill_a_daemon(store_folder: Path, node_folder: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(store_folder), str(node_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as daemon:
        try:
            assert _first_line(daemon) == b"ready\n"
        finally:
            daemon.send_signal(signal.SIGKILL)
            daemon.wait(DEADLINE)


def _first_line(daemon: subprocess.Popen[bytes]) -> bytes:
    """What the daemon prints first, within the deadline."""
    assert daemon.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(daemon.stdout, selectors.EVENT_READ)
        assert selector.select(DEADLINE), "the daemon was not ready in time"
        return daemon.stdout.readline()
