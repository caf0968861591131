"""SPDY/3.1 frames: bytes in, frames out, and the way back. Pure: no stream is known here, and nothing is sent.

    control frame   1 | version 3 (15 bits) | type (16)     flags (8) | length (24)     payload
    data frame      0 | stream (31)                         flags (8) | length (24)     data

Header blocks are compressed with one zlib context for each direction of a connection, so every block has to be read,
also one that nobody wants. SETTINGS, WINDOW_UPDATE and CREDENTIAL are read over: Kubernetes' clients and servers know
no flow control, and take windows to be endless. What breaks the rules raises `SpdyError`: the connection is then lost,
because the compression of what follows is unknown.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kubesim.apiserver.spdy.dictionary import DICTIONARY

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 0x01
PROTOCOL_ERROR, REFUSED_STREAM, CANCEL = 1, 3, 5  # why a stream is reset
GOAWAY_OK, GOAWAY_PROTOCOL_ERROR = 0, 1
LARGEST_CONTROL = 64 << 10
LARGEST_HEADERS = 64 << 10
LARGEST_DATA = 4 << 20
_CONTROL = 0x8000_0000
_ID = 0x7FFF_FFFF


class SpdyError(Exception):
    """The peer does not speak SPDY/3.1, or breaks its rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A piece of a stream; `fin`: the sender's last one."""

    stream: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SynStream:
    """A new stream."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SynReply:
    """The other side has taken a new stream."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """A stream is over in both directions, at once."""

    stream: int
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    """To be sent back with the same number, by the side that did not choose it."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GoAway:
    """The sender takes no new stream."""

    last_stream: int
    status: int = GOAWAY_OK


Frame = Data | SynStream | SynReply | Reset | Ping | GoAway


class Decoder:
    """What the peer sends, in whatever pieces it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now. Raises SpdyError."""
        self._buffer += data
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            length = second & 0xFF_FFFF
            if length > (LARGEST_CONTROL if first & _CONTROL else LARGEST_DATA):
                raise SpdyError(f"a frame of {length} bytes is longer than this server takes")
            if len(self._buffer) < 8 + length:
                return
            payload = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            flags = second >> 24
            if not first & _CONTROL:
                yield Data(stream=first & _ID, data=payload, fin=bool(flags & FIN))
            elif (frame := self._control(first, flags, payload)) is not None:
                yield frame

    def _control(self, first: int, flags: int, payload: bytes) -> Frame | None:
        if (first >> 16) & 0x7FFF != VERSION:
            raise SpdyError(f"version {(first >> 16) & 0x7FFF} of SPDY is not spoken here, only {VERSION}")
        try:
            match first & 0xFFFF:
                case 1:
                    headers = self._headers(payload[10:])
                    return SynStream(stream=_number(payload, 0), headers=headers, fin=bool(flags & FIN))
                case 2:
                    headers = self._headers(payload[4:])
                    return SynReply(stream=_number(payload, 0), headers=headers, fin=bool(flags & FIN))
                case 3:
                    return Reset(stream=_number(payload, 0), status=_number(payload, 4))
                case 6:
                    return Ping(id=struct.unpack_from(">I", payload)[0])
                case 7:
                    return GoAway(last_stream=_number(payload, 0), status=_number(payload, 4))
                case 8:
                    self._headers(payload[4:])  # keeps the compression in step
        except (struct.error, zlib.error) as error:
            raise SpdyError(f"a frame of type {first & 0xFFFF} cannot be read: {error}") from error
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        text = self._inflate.decompress(block, LARGEST_HEADERS)
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"headers of more than {LARGEST_HEADERS} bytes are not taken")
        (count,) = struct.unpack_from(">I", text)
        at = 4
        headers: dict[str, str] = {}
        for _ in range(count):
            name, at = _text(text, at)
            value, at = _text(text, at)
            headers[name.lower()] = value.partition("\0")[
                0
            ]  # several values are separated by NUL: the first counts
        return headers


class Encoder:
    """Frames as bytes. They have to be sent in the order in which they were encoded: headers depend on those before."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        """The bytes of one frame."""
        match frame:
            case Data(stream=stream, data=data, fin=fin):
                return struct.pack(">II", stream, (FIN if fin else 0) << 24 | len(data)) + data
            case SynStream(stream=stream, headers=headers, fin=fin):
                fixed = struct.pack(">IIH", stream, 0, 0)  # no associated stream, highest priority
                return _control_frame(SYN_STREAM, fixed + self._headers(headers), fin)
            case SynReply(stream=stream, headers=headers, fin=fin):
                return _control_frame(SYN_REPLY, struct.pack(">I", stream) + self._headers(headers), fin)
            case Reset(stream=stream, status=status):
                return _control_frame(RST_STREAM, struct.pack(">II", stream, status))
            case Ping(id=number):
                return _control_frame(PING, struct.pack(">I", number))
            case GoAway(last_stream=stream, status=status):
                return _control_frame(GOAWAY, struct.pack(">II", stream, status))

    def _headers(self, headers: Mapping[str, str]) -> bytes:
        words = (word.encode() for pair in headers.items() for word in (pair[0].lower(), pair[1]))
        block = struct.pack(">I", len(headers)) + b"".join(_with_length(word) for word in words)
        return self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _control_frame(kind: int, payload: bytes, fin: bool = False) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, (FIN if fin else 0) << 24 | len(payload)) + payload


def _with_length(word: bytes) -> bytes:
    return struct.pack(">I", len(word)) + word


def _number(payload: bytes, at: int) -> int:
    number: int = struct.unpack_from(">I", payload, at)[0]
    return number & _ID


def _text(block: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">I", block, at)
    end = at + 4 + length
    if end > len(block):
        raise SpdyError("a header is longer than its block")
    return block[at + 4 : end].decode("utf-8", "replace"), end
