"""Engines for tests: on a real store, stopped at the end whatever happens."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from whimbrel.requests.engine import Engine, Run
from whimbrel.store.engine import Store


class Op:
    """An operation made of a function."""

    def __init__(self, kind: str, fn: Callable[[Run], Awaitable[dict[str, Any] | None]]) -> None:
        self.kind = kind
        self._fn = fn

    async def run(self, run: Run) -> dict[str, Any] | None:
        return await self._fn(run)


EngineMaker = Callable[..., Awaitable[Engine]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store in a directory of the test."""
    with Store.open(tmp_path / "state.db") as opened:
        yield opened


@pytest.fixture
async def make(store: Store) -> AsyncIterator[EngineMaker]:
    """Start an engine with these operations: `await make(launch=fn, ...)`, `_lease`, `_workers`, `_id`, `_alone`."""
    async with AsyncExitStack() as stack:

        async def start(
            *,
            _lease: float = 15.0,
            _workers: int = 4,
            _id: str | None = None,
            _alone: bool = False,
            **operations: Any,
        ) -> Engine:
            ops = {kind: Op(kind, fn) for kind, fn in operations.items()}
            engine = Engine(store, ops, _id, lease=_lease, workers=_workers)
            await engine.start(alone=_alone)
            stack.push_async_callback(engine.stop)
            return engine

        yield start
