"""A disk that fails or is full: nothing is acknowledged that is not kept, and writes go on when the disk does."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .failing_disk import SYSCALLS

SCRIPT = str(Path(__file__).with_name("failing_disk.py"))


def run(*command: str) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(
    platform.machine() not in SYSCALLS, reason="the numbers of the system calls are not known"
)
def test_after_a_sync_that_failed_nothing_is_acknowledged_until_the_disk_can_be_trusted(
    tmp_path: Path,
) -> None:
    found = run(sys.executable, SCRIPT, "sync", str(tmp_path))
    assert found["told"]["before"] == "1"
    for when in ("broken", "still broken"):
        assert found["told"][when].startswith("StorageFailed: the disk failed: disk I/O error")
    assert found["reads"] == {"before": 1}
    mended = int(found["told"]["mended"])
    assert mended > 1
    assert found["after"] == {"before": 1, "mended": mended}
    assert found["revision"] == mended


def _own_mounts() -> bool:
    try:
        return subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not _own_mounts(), reason="this user may not mount a small file system (unshare -rm)")
def test_a_full_file_system_refuses_writes_and_takes_them_again_when_there_is_room(tmp_path: Path) -> None:
    mounted = 'mount -t tmpfs -o size=3m none "$1" && head -c 1m /dev/zero > "$1/ballast" && exec "$2" "$3" full "$1"'
    found = run("unshare", "-rm", "sh", "-c", mounted, "sh", str(tmp_path), sys.executable, SCRIPT)
    assert found["refused"].startswith("DiskFull: the disk refused the write: database or disk is full")
    assert found["mended"].isdigit()
    assert found["count"] > 100
    assert found["reads_whole"]
    assert found["kept"]
