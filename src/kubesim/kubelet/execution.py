"""One command that was started in a container by exec, as its shim sees it.

    running --(it ends)--> ended --(leave, or quiet)--> forgotten
       \\                     \\
        `----(client gone)-----`--> hung up --(KILL_AFTER)--> killed, forgotten

The command's session is what belongs to it. Who has left the session (setsid) or ignores SIGHUP (nohup) is on its own
and ends with the container.
"""

from __future__ import annotations

import os
import signal
import time

from kubesim.kubelet import proc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

KILL_AFTER = 1.0
"""Seconds between SIGHUP and SIGKILL for the command of a client that has gone."""
FIRST_LOOK = 0.005
LAST_LOOK = 0.1


class Execution:
    """A command's life after its start."""

    def __init__(
        self, pid: int, *, tell: Callable[[dict[str, Any]], None], forget: Callable[[], object]
    ) -> None:
        self.pid = pid
        self.next_at: float | None = None
        """When `tick` has something to do (monotonic), None when it has not."""
        self._tell = tell
        self._forget = forget
        self._has_ended = False
        self._hung_up = False
        self._wants_quiet = False
        self._pause = FIRST_LOOK

    def ended(self, code: int) -> None:
        """The command itself has ended; others in its session may still write."""
        self._has_ended = True
        if not self._hung_up:
            self._tell({"exit": code})

    def request(self, operation: str) -> None:
        """What the client may still ask for."""
        if operation == "leave":
            self._forget()
        elif operation == "quiet":
            self._wants_quiet = True
            self.next_at = time.monotonic()

    def disconnected(self) -> None:
        """The client has gone without `leave`."""
        self._hung_up = True
        self._hit(signal.SIGHUP)
        self._hit(signal.SIGCONT)
        self.next_at = time.monotonic() + KILL_AFTER

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.next_at is None or now < self.next_at:
            return
        if self._hung_up:
            self._hit(signal.SIGKILL)
            self._forget()
        elif self._wants_quiet:
            if self._has_ended and not self._session():
                self._tell({"quiet": True})
                self._forget()
            else:
                self._pause = min(self._pause * 2, LAST_LOOK)
                self.next_at = now + self._pause

    def _session(self) -> list[int]:
        return proc.in_session(proc.descendants(os.getpid()), self.pid)

    def _hit(self, number: int) -> None:
        for pid in self._session():
            found = proc.identify(pid)
            if found is not None and not proc.ignores_hangup(pid):
                found.send(number)
