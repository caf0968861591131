"""Where connections come in, and how they can be kept out.

As long as nobody asks for more, the event loop accepts connections and the door does nothing. From the first call of
`shut`, `freeze` or `judge` on it accepts by itself, because only there a connection can be turned away before TLS has
begun. A shut door keeps its port: the socket stays bound and does not listen, so that the kernel refuses.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

Factory = Callable[[], asyncio.Protocol]
_RESET = struct.pack("ii", 1, 0)  # linger on, for no time: closing sends RST
_BREATH = 0.5  # seconds without accepting when there are no descriptors left


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a new connection."""

    how: str
    """`reset`, `closed`, or `tls`."""
    context: ssl.SSLContext | None = None
    """The TLS that it gets instead of the server's own."""


class Door:
    """The listening sockets of one server."""

    def __init__(
        self, server: asyncio.Server, factory: Factory, context: ssl.SSLContext | None, backlog: int
    ) -> None:
        self._server: asyncio.Server | None = server
        self._factory = factory
        self._context = context
        self._backlog = backlog
        self._listeners: list[socket.socket] = []
        self._entering: set[asyncio.Task[object]] = set()
        self._judge: Callable[[], Verdict | None] | None = None
        self._shut = self._frozen = self._closed = False

    @property
    def tls(self) -> bool:
        return self._context is not None

    # What can be asked of it

    def judge(self, judge: Callable[[], Verdict | None] | None) -> None:
        """Ask about each new connection; None: let all in."""
        if judge is not None:
            self._take_over()
        self._judge = judge

    def shut(self, shut: bool) -> None:
        """Whether new connections are refused by the kernel."""
        if shut == self._shut or self._closed:
            return
        self._take_over()
        self._shut = shut
        if shut:
            self._deaf()
            self._listeners = [_only_bound(one) for one in self._listeners]
        else:
            for listener in self._listeners:
                listener.listen(self._backlog)
            self._hear()

    def freeze(self, frozen: bool) -> None:
        """Whether new connections wait without an answer."""
        if frozen == self._frozen or self._closed:
            return
        self._take_over()
        self._frozen = frozen
        if frozen:
            self._deaf()
        else:
            self._hear()

    def close(self) -> None:
        """Nobody comes in any more."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        self._deaf()
        for listener in self._listeners:
            listener.close()
        for task in self._entering:
            task.cancel()

    async def closed(self) -> None:
        """Until those on the threshold are gone."""
        if self._entering:
            await asyncio.wait(set(self._entering))

    # How it is done

    def _take_over(self) -> None:
        if self._server is None:
            return
        for known in self._server.sockets:
            listener = socket.socket(fileno=os.dup(known.fileno()))
            listener.setblocking(False)
            self._listeners.append(listener)
        self._server.close()  # its descriptors, not ours; open connections are left alone
        self._server = None
        self._hear()

    def _hear(self) -> None:
        if self._shut or self._frozen or self._closed:
            return
        for listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    def _deaf(self) -> None:
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(self._backlog):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                log.error("no connection can be accepted: %s", error)
                self._deaf()
                asyncio.get_running_loop().call_later(_BREATH, self._hear)
                return
            self._receive(connection)

    def _receive(self, connection: socket.socket) -> None:
        verdict = self._judge() if self._judge is not None else None
        if verdict is not None and verdict.how in ("reset", "closed"):
            if verdict.how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.close()
            return
        connection.setblocking(False)
        context = verdict.context if verdict is not None else self._context
        task: asyncio.Task[object] = asyncio.create_task(
            self._let_in(connection, context), name="new connection"
        )
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _let_in(self, connection: socket.socket, context: ssl.SSLContext | None) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._factory, connection, ssl=context)
        except (OSError, ssl.SSLError) as error:
            # A client that went away, or did not like the certificate.
            log.debug("a connection did not come about: %r", error)


def reset(transport: asyncio.Transport) -> None:
    """End a connection with RST."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass  # it is gone already
    transport.abort()


def _only_bound(listener: socket.socket) -> socket.socket:
    """A socket that has the same port and does not listen."""
    address = listener.getsockname()
    # Also deafens the descriptors of it that the event loop may still be closing.
    listener.shutdown(socket.SHUT_RDWR)
    bound = socket.socket(listener.family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setblocking(False)
    bound.bind(address)
    listener.close()
    return bound
