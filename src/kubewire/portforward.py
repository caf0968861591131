"""Connections to a port of a pod over a WebSocket: the frames, and a byte stream over a channel.

For each forwarded port there are two streams, data and error, told apart by the first byte of each message; the
first message of each only repeats the port number. One channel carries one connection here. The protocol has no half
close. kubectl's own protocol (SPDY inside a WebSocket) is not spoken here.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubewire.errors import StreamBroken
from kubewire.exec import V4, data_frames
from kubewire.transport import Channel

PROTOCOLS = (V4,)

DATA, ERROR = 0, 1


def frames(data: bytes) -> Iterator[bytes]:
    """The messages that carry `data` to the pod."""
    return data_frames(data, DATA)


class Frames:
    """Reading side: strips the port numbers, sorts data from errors."""

    def __init__(self, port: int) -> None:
        self._port = port.to_bytes(2, "little")
        self._greeted: set[int] = set()

    def feed(self, message: bytes) -> bytes:
        """The data in a message (perhaps none). Raises `StreamBroken` with what the server says went wrong."""
        if not message:
            return b""
        stream, data = message[0], message[1:]
        if stream not in (DATA, ERROR):
            raise StreamBroken(f"port-forward: a message for stream {stream}, which was not asked for")
        if stream not in self._greeted:
            self._greeted.add(stream)
            if data[:2] != self._port:
                raise StreamBroken("port-forward: the server did not confirm the port")
            data = data[2:]
        if stream == ERROR and data:
            raise StreamBroken(f"port-forward: {data.decode('utf-8', 'replace').strip()}")
        return data


class PortStream:
    """One connection to a port of a pod."""

    def __init__(self, channel: Channel, port: int) -> None:
        self._channel = channel
        self._frames = Frames(port)

    async def write(self, data: bytes) -> None:
        """Send; waits while the other side does not read, at most the idle bound."""
        for frame in frames(data):
            await self._channel.send(frame)

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises `StreamBroken` when the pod refused or the connection broke."""
        while True:
            message = await self._channel.receive()
            if message is None:
                return b""
            if data := self._frames.feed(message):
                return data
