"""Write the field numbers of Kubernetes' protobuf messages: python scripts/build_protobuf.py /usr/bin/kubectl

Go programs of Kubernetes up to 1.33 or so carry the descriptors of their messages, gzipped, in their data; field
numbers never change once they are given, so those of a kubectl serve for every later version. The output is the
smallest thing that `kubesim.apiserver.protobuf` needs: for each message its fields as number, name, type.
"""

from __future__ import annotations

import json
import mmap
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).parent.parent / "src/kubesim/apiserver/protobuf/messages.json.z"
MESSAGE, REPEATED = 11, 3
_KINDS = {
    1: "double",
    2: "float",
    3: "int",
    4: "uint",
    5: "int",
    8: "bool",
    9: "string",
    12: "bytes",
    13: "uint",
}
_WANTED = ("k8s.io/api/", "k8s.io/apimachinery/")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of an encoded message."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        elif tag & 7 == 2:
            size = varint()
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            at += 8 if tag & 7 == 1 else 4


def one(data: bytes, number: int) -> bytes | int | None:
    return next((value for key, value in fields(data) if key == number), None)


def text(data: bytes, number: int) -> str:
    value = one(data, number)
    return value.decode() if isinstance(value, bytes) else ""


def descriptors(binary: Path) -> Iterator[bytes]:
    """The FileDescriptorProtos in a Go binary."""
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        at = memory.find(b"\x1f\x8b\x08")
        while at >= 0:
            try:
                found = zlib.decompressobj(31).decompress(memory[at : at + 500_000])
            except zlib.error:
                found = b""
            if found[:1] == b"\x0a" and b"generated.proto" in found[:120]:
                yield found
            at = memory.find(b"\x1f\x8b\x08", at + 1)


def messages(prefix: str, message: bytes) -> Iterator[tuple[str, list[object]]]:
    """A message and those inside it; map entries are marked with an asterisk."""
    name = f"{prefix}.{text(message, 1)}"
    listed: list[object] = []
    for number, value in fields(message):
        if number == 2 and isinstance(value, bytes):
            type_ = one(value, 5)
            kind = text(value, 6).lstrip(".") if type_ == MESSAGE else _KINDS[int(type_ or 0)]
            listed.append([one(value, 3), text(value, 1), kind, int(one(value, 4) == REPEATED)])
        elif number == 3 and isinstance(value, bytes):
            yield from messages(name, value)
    options = one(message, 7)
    is_map = isinstance(options, bytes) and one(options, 7) == 1
    yield name + ("*" if is_map else ""), listed


def main() -> None:
    found: dict[str, list[object]] = {}
    for descriptor in descriptors(Path(sys.argv[1])):
        if not text(descriptor, 1).startswith(_WANTED):
            continue
        for number, value in fields(descriptor):
            if number == 4 and isinstance(value, bytes):
                found.update(messages(text(descriptor, 2), value))
    if "k8s.io.api.core.v1.Pod" not in found:
        raise SystemExit(f"{sys.argv[1]} carries no descriptors")
    data = json.dumps(found, separators=(",", ":"), sort_keys=True).encode()
    TARGET.write_bytes(zlib.compress(data, 9))
    print(f"{len(found)} messages, {TARGET.stat().st_size} bytes in {TARGET}")


if __name__ == "__main__":
    main()
