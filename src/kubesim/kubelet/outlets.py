"""Where a container's output comes from, and the clients that are attached to it.

An attached client gets copies; one that does not read loses its connection to the output after a bounded backlog, and
never slows the container. The log, which is complete in any case, is written elsewhere (`crilog.py`).
"""

from __future__ import annotations

import os

from kubesim.kubelet.crilog import STDERR

LARGEST_BACKLOG = 1 << 20


class Source:
    """The near end of a pipe or terminal that the main process writes to."""

    __slots__ = ("descriptor", "stream")

    def __init__(self, descriptor: int, stream: bytes) -> None:
        self.descriptor = descriptor
        self.stream = stream


class Outlet:
    """The pipes of one attached client: stdout, and stderr when it has one of its own."""

    __slots__ = ("_backlogs", "_descriptors")

    def __init__(self, descriptors: list[int]) -> None:
        self._descriptors = descriptors
        self._backlogs = [bytearray() for _ in descriptors]

    def feed(self, stream: bytes, data: bytes) -> None:
        """Pass output on."""
        index = 1 if stream == STDERR and len(self._descriptors) > 1 else 0
        if index < len(self._descriptors):
            self._backlogs[index] += data
            self.drain()

    def drain(self) -> None:
        """Write what the pipes take."""
        for descriptor, backlog in zip(self._descriptors, self._backlogs, strict=True):
            try:
                while backlog:
                    del backlog[: os.write(descriptor, backlog)]
            except BlockingIOError:
                if len(backlog) > LARGEST_BACKLOG:
                    backlog.clear()
            except OSError:
                backlog.clear()  # nobody reads any more

    def waiting(self) -> list[tuple[int, bool]]:
        """Each pipe, and whether something waits for room in it."""
        return [
            (descriptor, bool(backlog))
            for descriptor, backlog in zip(self._descriptors, self._backlogs, strict=True)
        ]

    def close(self) -> None:
        """Let the client see the end."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        self._backlogs = []
