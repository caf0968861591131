"""pods/exec and attach over SPDY (`v4.channel.k8s.io`): a stream each for stdin, stdout, stderr, errors and resizing.

The client opens those that its question names; the command is heard when all are there. Its end is a Status on the
error stream, as over WebSockets.
"""

from __future__ import annotations

import asyncio
import contextlib

import orjson

from kubesim.apiserver.channels import exit_status, resize
from kubesim.apiserver.nodes import ExecOptions, ProcessStream
from kubesim.apiserver.spdy.session import Pipe, Refused, Session, Stream

PROTOCOL = "v4.channel.k8s.io"
STREAMS_LIMIT = 30.0
"""Seconds in which the client has to open all its streams."""
LARGEST_SIZE = 4096


async def run_process(pipe: Pipe, process: ProcessStream, options: ExecOptions) -> None:
    """Carry a command's streams until it has ended or the client is gone."""
    streams = _Streams(options)
    session = Session(pipe, streams.accept)
    serving = asyncio.create_task(session.run(), name=f"{PROTOCOL}: the client")
    carrying = asyncio.create_task(_carry(streams, process), name=f"{PROTOCOL}: the command")
    try:
        await asyncio.wait((serving, carrying), return_when=asyncio.FIRST_COMPLETED)
        if carrying.done():
            await carrying
            await session.leave()
    except (OSError, TimeoutError):
        pass  # the client has gone, or never opened its streams
    finally:
        for task in (serving, carrying):
            task.cancel()
        await asyncio.gather(serving, carrying, return_exceptions=True)
        await process.aclose()


class _Streams:
    """The streams of one command, as they come."""

    def __init__(self, options: ExecOptions) -> None:
        asked = {
            "stdin": options.stdin,
            "stdout": options.stdout,
            "stderr": options.stderr,
            "resize": options.tty,
        }
        self._missing = {"error"} | {name for name, wanted in asked.items() if wanted}
        self._known: dict[str, Stream] = {}
        self.complete = asyncio.Event()

    def accept(self, stream: Stream) -> None:
        """A stream that the client has opened."""
        kind = stream.headers.get("streamtype", "")
        if kind not in self._missing:
            raise Refused(f"invalid stream type {kind!r}")
        self._missing.remove(kind)
        self._known[kind] = stream
        if not self._missing:
            self.complete.set()

    def get(self, kind: str) -> Stream | None:
        """The stream of a kind, None when the client did not ask for it."""
        return self._known.get(kind)

    def __getitem__(self, kind: str) -> Stream:
        return self._known[kind]


async def _carry(streams: _Streams, process: ProcessStream) -> None:
    async with asyncio.timeout(STREAMS_LIMIT):
        await streams.complete.wait()
    inputs = [
        asyncio.create_task(pump(stream, process), name=f"{PROTOCOL}: {kind}")
        for kind, pump in (("stdin", _stdin), ("resize", _sizes))
        if (stream := streams.get(kind)) is not None
    ]
    try:
        outputs = {1: streams.get("stdout"), 2: streams.get("stderr")}
        async for number, data in process.output():
            if (stream := outputs.get(number)) is not None:
                await stream.write(data)
        status = exit_status(await process.exit_code())
        await streams["error"].write(orjson.dumps(status))
        for stream in (*outputs.values(), streams["error"]):
            if stream is not None:
                await stream.close()
    finally:
        for task in inputs:
            task.cancel()
        await asyncio.gather(*inputs, return_exceptions=True)


async def _stdin(stream: Stream, process: ProcessStream) -> None:
    with contextlib.suppress(OSError):
        while data := await stream.read():
            await process.write_stdin(data)
        await process.close_stdin()


async def _sizes(stream: Stream, process: ProcessStream) -> None:
    """Sizes follow each other as JSON objects, one in each line, in whatever pieces."""
    pending = b""
    with contextlib.suppress(OSError):
        while data := await stream.read():
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                await resize(process, line)
            pending = pending[:LARGEST_SIZE]
