"""The daemon's end of a conversation with a zygote or a shim: `wire` for asyncio, and nothing else."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from kubesim.kubelet import wire

RETRY = 0.005


async def readable(descriptor: int) -> None:
    """Wait until something can be read. One waiter per descriptor."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class Link:
    """One connection. Packets are answered in order; only one task may receive at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    @classmethod
    async def open(cls, directory: str | os.PathLike[str], name: str, timeout: float = 2.0) -> Link:
        """Connect. Raises OSError (ConnectionRefusedError, FileNotFoundError) when nobody listens, TimeoutError."""
        async with asyncio.timeout(timeout):
            while True:
                try:
                    return cls(wire.connect(os.fspath(directory), name))
                except BlockingIOError:  # its queue of connections is full
                    await asyncio.sleep(RETRY)

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send one packet. Raises OSError when the other side has gone or does not read."""
        try:
            wire.send(self._socket, message, descriptors)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG)) from None
            raise

    async def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next packet and its descriptors, which then belong to the caller; None at the end."""
        while True:
            try:
                return wire.receive(self._socket)
            except BlockingIOError:
                await readable(self._socket.fileno())

    async def answer(self, timeout: float) -> tuple[dict[str, Any], list[int]]:
        """The next packet within a bound. Raises ConnectionError at the end, TimeoutError."""
        async with asyncio.timeout(timeout):
            message, descriptors = await self.receive()
        if message is None:
            raise ConnectionResetError(errno.ECONNRESET, "the other side has ended")
        return message, descriptors

    async def ask(self, message: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send one packet and wait for one."""
        self.send(message)
        return (await self.answer(timeout))[0]

    def close(self) -> None:
        """End the conversation."""
        self._socket.close()

    def keep(self) -> Link:
        """The same conversation in an object of its own: leaving this one's `with` block no longer ends it."""
        return Link(self._socket.dup())

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
