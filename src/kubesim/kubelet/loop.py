"""The event loop of a shim: descriptors, their handlers, and signals as bytes in a socket.

Not asyncio: that would cost every container a megabyte of memory.
"""

from __future__ import annotations

import select
import signal
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CAUGHT = (signal.SIGCHLD, signal.SIGTERM)
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTTOU, signal.SIGTTIN)


class Loop:
    """Waits in `poll`, and nowhere else."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], object]] = {}
        self._wakeups, self._far_wakeups = socket.socketpair()

    def catch_signals(self, handler: Callable[[bytes], object]) -> None:
        """Have the numbers of signals that arrive given to a handler."""
        for end in (self._wakeups, self._far_wakeups):
            end.setblocking(False)
        signal.set_wakeup_fd(self._far_wakeups.fileno(), warn_on_full_buffer=False)
        for number in _CAUGHT:
            signal.signal(number, lambda *_: None)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        self.watch(self._wakeups.fileno(), lambda _: handler(self.signals()))

    def signals(self) -> bytes:
        """The numbers of the signals that have arrived since the last look."""
        numbers = b""
        try:
            while data := self._wakeups.recv(4096):
                numbers += data
        except BlockingIOError:
            return numbers
        return numbers

    def watch(self, descriptor: int, handler: Callable[[int], object], events: int = select.POLLIN) -> None:
        """Have the handler called whenever something can be read (or what `events` says)."""
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """No longer; it need not have been watched."""
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def watches(self, descriptor: int) -> bool:
        """Whether it is watched."""
        return descriptor in self._handlers

    def ready(self, seconds: float) -> list[int]:
        """The descriptors for which there is something to do, after a while at most."""
        return [descriptor for descriptor, _ in self._poll.poll(max(0.0, seconds) * 1000)]

    def step(self, seconds: float) -> None:
        """Wait, and call the handlers."""
        for descriptor in self.ready(seconds):
            handler = self._handlers.get(descriptor)  # an earlier one may have ended it
            if handler is not None:
                handler(descriptor)
