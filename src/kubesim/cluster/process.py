"""Which process is meant: pid, start time and boot id together, never a pid alone.

A pid is reused after the process has gone, and all of them after a reboot; a signal that is sent to a remembered pid
may hit a stranger. Here a process is asked for and signalled only under its full identity, through a pidfd, so that it
cannot change between the look and the blow. What a pod's processes are is the kubelet's business, not ours.
"""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """One process, and no other that will ever have its pid."""

    pid: int
    start_time: int  # clock ticks since boot
    boot_id: str

    def is_alive(self) -> bool:
        """Whether exactly this process runs; a zombie does not."""
        return identify(self.pid) == self

    def send(self, signum: signal.Signals) -> bool:
        """Signal exactly this process; False when it has gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.is_alive():
                return False
            signal.pidfd_send_signal(handle, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def wait_gone(self, timeout: float) -> bool:
        """Wait until the process has ended; False when it still runs after `timeout` seconds."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.is_alive():
                return True
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            deadline = time.monotonic() + timeout
            while (left := deadline - time.monotonic()) > 0:
                if poll.poll(left * 1000):
                    return True
            return False
        finally:
            os.close(handle)


def boot_id() -> str:
    """The identity of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessId | None:
    """The identity of the process that has this pid now, None when there is none (or only a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the command's name, in parentheses, may hold anything
    if fields[0] in "ZX":
        return None
    return ProcessId(pid=pid, start_time=int(fields[19]), boot_id=boot_id())


def myself() -> ProcessId:
    """The identity of this process."""
    found = identify(os.getpid())
    if found is None:  # /proc is not mounted: nothing here could be told apart from a stranger
        raise OSError("/proc does not show this process")
    return found
