"""pods/portforward over SPDY: each connection is a pair of streams, one for its data and one for what went wrong.

Both carry the port and the number of the connection in their headers. The client closes its side of the error stream
at once; a word on it ends kubectl's whole port-forward, so it is said only when the pod's port cannot be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from kubesim.apiserver.channels import Dial
from kubesim.apiserver.spdy.session import PIECE, Pipe, Refused, Session, Stream, StreamReset

PROTOCOL = "portforward.k8s.io"
PAIR_LIMIT = 30.0
"""Seconds between the two streams of one connection."""
CLOSE_LIMIT = 1.0


class _Connection:
    """One forwarded connection: complete when both of its streams are there."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: dict[str, Stream] = {}
        self.complete = asyncio.Event()


class Forwarding:
    """All connections that one client has into one pod."""

    def __init__(self, pipe: Pipe, dial: Dial, pod: str) -> None:
        """`pod` is how the pod is named where something goes wrong."""
        self._session = Session(pipe, self._accept)
        self._dial = dial
        self._pod = pod
        self._waiting: dict[str, _Connection] = {}
        self._group = asyncio.TaskGroup()

    async def run(self) -> None:
        """Serve until the client is gone."""
        async with self._group:
            await self._session.run()
            for connection in self._waiting.values():
                connection.complete.set()

    def _accept(self, stream: Stream) -> None:
        port, kind = _port(stream), stream.headers.get("streamtype")
        if kind not in ("data", "error"):
            raise Refused(f"invalid stream type {kind!r}")
        # Without a number, the data stream is the one that was opened right after the error stream.
        first = stream.number if kind == "error" else stream.number - 2
        number = stream.headers.get("requestid") or f"stream {first}"
        connection = self._waiting.get(number)
        if connection is None:
            connection = self._waiting[number] = _Connection(port)
            self._group.create_task(self._serve(number, connection), name=f"port {port}, request {number}")
        elif kind in connection.streams:
            raise Refused(f"request {number} has a {kind} stream already")
        connection.streams[kind] = stream
        if len(connection.streams) == 2:
            connection.complete.set()

    async def _serve(self, number: str, connection: _Connection) -> None:
        try:
            async with asyncio.timeout(PAIR_LIMIT):
                await connection.complete.wait()
        except TimeoutError:
            pass
        del self._waiting[number]
        streams = connection.streams
        try:
            if len(streams) == 2:
                await self._carry(connection.port, streams["data"], streams["error"])
            for stream in streams.values():
                await stream.close()
        except (StreamReset, OSError):
            pass  # the client has dropped this connection, or has gone
        finally:
            for stream in streams.values():
                self._session.forget(stream)

    async def _carry(self, port: int, data: Stream, error: Stream) -> None:
        try:
            reader, writer = await self._dial(port)
        except OSError as failure:  # TimeoutError is one
            why = os.strerror(failure.errno).lower() if failure.errno else str(failure) or "timed out"
            reason = f"failed to connect to localhost:{port}: {why}"
            await error.write(f"error forwarding port {port} to pod {self._pod}: {reason}".encode())
            return
        to_pod = asyncio.create_task(_to_pod(data, writer), name=f"port {port}: to the pod")
        from_pod = asyncio.create_task(_from_pod(reader, data), name=f"port {port}: from the pod")
        gone = asyncio.create_task(data.gone.wait(), name=f"port {port}: the client")
        tasks = (to_pod, from_pod, gone)
        try:
            # What the client says may end first: the pod's answer is still to come.
            await asyncio.wait((from_pod, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_LIMIT):
                    await writer.wait_closed()


async def _to_pod(stream: Stream, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await stream.read():
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def _from_pod(reader: asyncio.StreamReader, stream: Stream) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE):
            await stream.write(data)


def _port(stream: Stream) -> int:
    text = stream.headers.get("port", "")
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise Refused(f"unable to parse {text!r} as a port")
    return int(text)
