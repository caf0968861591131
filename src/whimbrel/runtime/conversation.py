"""One request on one exec stream: send the script and its data, read the reply, know how it ended.

Everything that goes wrong on the way is a `NodeLost` that says what was being done; a script that ends with a code
other than 0 is an answer, not an error. Reader and writer run at the same time, so that neither can wedge the
other; every wait has a bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from whimbrel.infra.base import ExecStream, Node
from whimbrel.model.errors import InfraError, InfraRefused, NodeLost
from whimbrel.runtime import framing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sized:
    """A stream of data whose length is known before it begins."""

    pieces: AsyncIterator[bytes]
    length: int


Data = bytes | Sized | AsyncIterator[bytes]
"""What a script finds on its stdin. Only where the length is not known does it take a server (Kubernetes 1.30) that
can tell the end of stdin."""
IDLE = 60.0
COLLECT_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a script on a node ended with."""

    exit_code: int
    stdout: bytes
    stderr: bytes

    def check(self, what: str, node: Node) -> Result:
        """Itself, or `InfraRefused` with what the script said when it did not end with 0."""
        if self.exit_code == 0:
            return self
        said = (
            self.stderr.decode("utf-8", "replace").strip() or self.stdout.decode("utf-8", "replace").strip()
        )
        raise InfraRefused(
            f"{what} on node {node.name} failed (exit code {self.exit_code}): {said or 'no reason'}"
        )


class Conversation:
    """An open request. `pieces` gives its output; `exit_code` is known after them."""

    def __init__(self, node: Node, stream: ExecStream, nonce: str, idle: float) -> None:
        self._node = node
        self._stream = stream
        self._idle = idle
        self._parsers = {kind: framing.ReplyParser(nonce) for kind in (framing.STDOUT, framing.STDERR)}
        self._said = b""
        self._bound: asyncio.Timeout | None = None
        self._failure: BaseException | None = None
        self._endless: InfraRefused | None = None
        self.exit_code: int | None = None

    async def pieces(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """(1 or 2, bytes) as they come, until the trailer has come on both streams."""
        output = self._stream.output()
        try:
            while any(parser.exit_code is None for parser in self._parsers.values()):
                piece = await self._next(output)
                if piece is None:
                    break
                parser = self._parsers.get(piece[0])
                payload = parser.feed(piece[1]) if parser else b""
                if payload:
                    if piece[0] == framing.STDERR:
                        self._said = (self._said + payload)[-500:]
                    yield piece[0], payload
        finally:
            close = getattr(output, "aclose", None)
            if close:
                await close()
        self.exit_code = self._parsers[framing.STDOUT].exit_code
        if self.exit_code is None:
            await self._explain_early_end()

    async def send(self, head: bytes, data: Data) -> None:
        """Write everything to stdin. A piece taken by the other side counts as a sign of life; a failure of
        the data's source ends the request with that failure."""
        if not await self._write(head):
            return
        try:
            if isinstance(data, bytes):
                await self._write(data)
                return
            async for piece in data.pieces if isinstance(data, Sized) else data:
                if not await self._write(piece):
                    return
        except Exception as error:
            self._failure = error
            self._wake(0)
            return
        if not isinstance(data, Sized):
            await self._close_stdin()

    async def _write(self, data: bytes) -> bool:
        """Whether it could be written. When not, the reader is the one that knows what that means."""
        try:
            await self._stream.write(data)
        except InfraError as error:
            logger.debug("stdin of node %s: %s", self._node.name, error)
            return False
        self._wake(self._idle)
        return True

    async def _close_stdin(self) -> None:
        try:
            await self._stream.close_stdin()
        except InfraRefused as error:
            self._endless = error  # it matters only to a script that waits for the end
        except InfraError as error:
            logger.debug("stdin of node %s: %s", self._node.name, error)

    async def _next(self, output: AsyncIterator[tuple[int, bytes]]) -> tuple[int, bytes] | None:
        if self._failure is not None:
            raise self._failure
        try:
            async with asyncio.timeout(self._idle) as self._bound:
                return await anext(output, None)
        except TimeoutError:
            if self._failure is not None:
                raise self._failure from None
            if self._endless is not None:
                raise self._endless from None
            raise NodeLost(
                f"node {self._node.name} was silent for {self._idle:g} s while it should have answered"
            ) from None
        finally:
            self._bound = None

    def _wake(self, after: float) -> None:
        if self._bound is not None and not self._bound.expired():
            self._bound.reschedule(asyncio.get_running_loop().time() + after)

    async def _explain_early_end(self) -> None:
        """The stream has ended without the trailer: say why, as far as it can be known."""
        code: int | None = None
        try:
            async with asyncio.timeout(self._idle):
                code = await self._stream.exit_code()
        except TimeoutError:
            pass  # then the code is not known, which the message says by not saying it
        said = (self._said + self._parsers[framing.STDERR].rest()).decode("utf-8", "replace").strip()
        if code in (126, 127):
            raise InfraRefused(
                f"node {self._node.name} cannot run a shell: {said or 'sh was not found'}",
                remedy="use an image that has a POSIX shell (sh) on its PATH",
            )
        reason = f" ({said})" if said else ""
        ended = "" if code is None else f", exit code {code}"
        raise NodeLost(
            f"the exec stream to node {self._node.name} ended before its command did{ended}{reason}"
        )


@asynccontextmanager
async def converse(
    node: Node, script: str, *, data: Data = b"", idle: float = IDLE
) -> AsyncIterator[Conversation]:
    """Open a request; leaving the context ends the stream, not what the script has started."""
    nonce = framing.new_nonce()
    length = len(data) if isinstance(data, bytes) else data.length if isinstance(data, Sized) else None
    head = framing.compose(script, nonce, data_length=length)
    async with node.exec(framing.ARGV, stdin=True) as stream:
        talk = Conversation(node, stream, nonce, idle)
        writer = asyncio.create_task(talk.send(head, data), name=f"stdin of {node.name}")
        try:
            yield talk
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)


async def run(
    node: Node, script: str, *, data: Data = b"", timeout: float | None, idle: float | None = None
) -> Result:
    """Run `script` under the node's `sh`, with `data` as its stdin, and collect what it prints. What has no
    `timeout` is bounded by `idle`, the longest time in which nothing moves."""
    bound = idle or timeout or IDLE
    collected: dict[int, list[bytes]] = {framing.STDOUT: [], framing.STDERR: []}
    size = 0
    try:
        async with (
            asyncio.timeout(timeout),
            converse(node, script, data=data, idle=bound) as talk,
            aclosing(talk.pieces()) as pieces,
        ):
            async for kind, piece in pieces:
                size += len(piece)
                if size > COLLECT_LIMIT:
                    raise InfraRefused(f"node {node.name} answered with more than {COLLECT_LIMIT >> 20} MB")
                collected[kind].append(piece)
    except TimeoutError:
        raise NodeLost(f"node {node.name} did not answer within {timeout or bound:g} s") from None
    assert talk.exit_code is not None
    return Result(
        exit_code=talk.exit_code,
        stdout=b"".join(collected[framing.STDOUT]),
        stderr=b"".join(collected[framing.STDERR]),
    )
