"""One SPDY connection as its server sees it: the peer opens streams, both sides read and write them.

A peer of Kubernetes knows no windows, so a stream that nobody reads would fill the memory: beyond `LARGEST_BACKLOG`
of one stream the whole connection waits, as it does in Kubernetes' own servers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from kubesim.apiserver.spdy import frames
from kubesim.apiserver.spdy.frames import (
    Data,
    Decoder,
    Encoder,
    Frame,
    GoAway,
    Ping,
    Reset,
    SynReply,
    SynStream,
)

log = logging.getLogger(__name__)

LARGEST_BACKLOG = 4 << 20
PIECE = 32 << 10


class Pipe(Protocol):
    """What carries the bytes: a WebSocket, or a connection that was upgraded."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes | None: ...


class StreamReset(ConnectionError):
    """The peer has dropped the stream, or the connection is gone."""


class Refused(Exception):
    """This stream is not taken: it is reset, and the others go on."""


class Stream:
    """One stream of a session."""

    def __init__(self, session: Session, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self._session = session
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ended = False  # the peer sends no more
        self._closed = False  # we send no more
        self._reset = False
        self.gone = asyncio.Event()
        """Set when the peer, or the connection, has dropped the stream."""

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises StreamReset."""
        while not self._pieces:
            if self._reset:
                raise StreamReset(f"stream {self.number} was reset")
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        piece = self._pieces.popleft()
        self._size -= len(piece)
        self._room.set()
        return piece

    async def write(self, data: bytes) -> None:
        """Send. Raises StreamReset."""
        for start in range(0, len(data), PIECE):
            if self._reset or self._closed:
                raise StreamReset(f"stream {self.number} is closed")
            await self._session.send(Data(stream=self.number, data=data[start : start + PIECE]))

    async def close(self) -> None:
        """Send no more; what the peer sends is still read."""
        if not self._closed and not self._reset:
            self._closed = True
            await self._session.send(Data(stream=self.number, data=b"", fin=True))

    async def reset(self, status: int = frames.CANCEL) -> None:
        """End both directions at once."""
        if not self._reset:
            self.drop()
            await self._session.send(Reset(stream=self.number, status=status))

    # --- called by the session ---

    async def take(self, data: bytes, fin: bool) -> None:
        """A piece from the peer; waits while too much lies here unread."""
        if self._reset or self._ended:
            return
        if data:
            self._pieces.append(data)
            self._size += len(data)
        self._ended = fin
        self._changed.set()
        while self._size > LARGEST_BACKLOG and not self._reset:
            self._room.clear()
            await self._room.wait()

    def drop(self) -> None:
        """Over: who reads gets what has arrived, then `StreamReset`."""
        self._reset = True
        self.gone.set()
        self._changed.set()
        self._room.set()


class Session:
    """The server's side of a connection."""

    def __init__(self, pipe: Pipe, accept: Callable[[Stream], None]) -> None:
        """`accept` is called with each new stream; it may raise `Refused`."""
        self._pipe = pipe
        self._accept = accept
        self._decoder = Decoder()
        self._encoder = Encoder()
        self._sending = asyncio.Lock()
        self._streams: dict[int, Stream] = {}
        self._last = 0

    async def run(self) -> None:
        """Serve until the peer is gone, or breaks the rules; then all streams are reset."""
        try:
            while (data := await self._pipe.receive()) is not None:
                for frame in self._decoder.feed(data):
                    await self._handle(frame)
        except frames.SpdyError as error:
            log.info("a client does not speak SPDY as it should: %s", error)
            with contextlib.suppress(OSError):
                await self.send(GoAway(last_stream=self._last, status=frames.GOAWAY_PROTOCOL_ERROR))
        finally:
            for stream in self._streams.values():
                stream.drop()

    async def send(self, frame: Frame) -> None:
        """Send a frame, after those that were sent before."""
        async with self._sending:
            await self._pipe.send(self._encoder.encode(frame))

    async def leave(self) -> None:
        """Say that this is the end."""
        await self.send(GoAway(last_stream=self._last))

    def forget(self, stream: Stream) -> None:
        """Nobody is interested in this stream any more; what still arrives for it is read over."""
        self._streams.pop(stream.number, None)
        stream.drop()

    async def _handle(self, frame: Frame) -> None:
        match frame:
            case SynStream():
                await self._open(frame)
            case Data():
                if (stream := self._streams.get(frame.stream)) is not None:
                    await stream.take(frame.data, frame.fin)
            case Reset():
                if (stream := self._streams.pop(frame.stream, None)) is not None:
                    stream.drop()
            case Ping() if frame.id % 2 == 1:  # the peer's own: even ones would be answers to ours
                await self.send(frame)

    async def _open(self, frame: SynStream) -> None:
        if frame.stream % 2 == 0 or frame.stream <= self._last:
            raise frames.SpdyError(f"stream {frame.stream} may not be opened after {self._last}")
        self._last = frame.stream
        stream = Stream(self, frame.stream, frame.headers)
        if frame.fin:
            await stream.take(b"", True)
        try:
            self._accept(stream)
        except Refused:
            await stream.reset(frames.REFUSED_STREAM)
            return
        self._streams[frame.stream] = stream
        await self.send(SynReply(stream=frame.stream))
