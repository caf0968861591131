"""One SQLite database, one writer thread with group commit, a few reading threads.

A transaction is one function of a connection. `write` hands it to the writer thread, which takes everything that
waits, runs each function in a savepoint of its own inside one `BEGIN IMMEDIATE`, and answers all of them after one
commit to the disk: what was answered is stored (synchronous=FULL), and fifty callers cost one fsync. A function that
raises rolls back its own savepoint and nothing of its neighbours. Because functions are plain calls, no network
call and no `await` can happen inside a transaction.

What the rows mean is not known here: see `tables` and the query modules beside it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import orjson
from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from whimbrel.model.errors import StoreUnusable
from whimbrel.store import location, schema

logger = logging.getLogger(__name__)

T = TypeVar("T")

BUSY_SECONDS = 20.0  # how long a transaction waits for another process that writes
READERS = 2
LARGEST_GROUP = 256  # transactions that share one commit
OLDEST_SQLITE = (3, 35, 0)  # UPDATE ... RETURNING


@dataclass(slots=True)
class _Write:
    """One transaction on its way through the writer thread."""

    run: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    ready: bool = field(default=False)


class Store:
    """The server's database. `open` it before the event loop serves, `close` it last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = _engine(path, "BEGIN IMMEDIATE")
        self._reading = _engine(path, "BEGIN")
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="whimbrel-read")
        self._local = threading.local()
        self._read_connections: list[Connection] = []
        self._closed = False
        self._writer = threading.Thread(target=self._write_loop, name="whimbrel-write", daemon=True)

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Open or create the database; its schema is made, or migrated when it is behind.

        Raises `StoreUnusable` (with what to do) on a network file system, for a file that is no database or was
        written by a newer whimbrel, and where the directory cannot be written.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreUnusable(
                f"SQLite {sqlite3.sqlite_version} is too old: 3.35 is needed.",
                remedy="Use a Python that comes with a newer SQLite.",
            )
        store = cls(location.prepare(Path(path)))
        try:
            with store._writing.connect() as connection, connection.begin():
                schema.bring_up_to_date(connection, store.path)
        except DBAPIError as error:
            raise StoreUnusable(
                f"The database {store.path} cannot be used: {error.orig}.",
                remedy=f"Stop the server (`whim api stop`) and move {store.path} away, or restore a backup of it.",
            ) from error
        store._writer.start()
        return store

    def close(self) -> None:
        """Finish what was handed in, then close every connection. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._writer.join()
        self._readers.shutdown(wait=True)
        for connection in self._read_connections:
            connection.close()
        self._writing.dispose()
        self._reading.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Run one transaction in the writer thread and return once it is on the disk.

        Cancelling the wait before the transaction has begun leaves it out; after that it takes place.
        """
        self._check(fn)
        loop = asyncio.get_running_loop()
        write = _Write(fn, loop, loop.create_future())
        self._queue.put(write)
        result: T = await write.future
        return result

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run one read-only transaction (a consistent snapshot) in a reading thread."""
        self._check(fn)
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, fn)

    def _check(self, fn: Callable[[Connection], Any]) -> None:
        if inspect.iscoroutinefunction(fn):
            raise TypeError("a transaction is a plain function: nothing may be awaited inside of it")
        if self._closed:
            raise StoreUnusable(f"The database {self.path} is closed.")

    def _read(self, fn: Callable[[Connection], T]) -> T:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._reading.connect()
            connection.exec_driver_sql("PRAGMA query_only=ON")
            connection.rollback()
            self._local.connection = connection
            self._read_connections.append(connection)
        with connection.begin():
            return fn(connection)

    def _write_loop(self) -> None:
        with self._writing.connect() as connection:
            going = True
            while going:
                group: list[_Write] = []
                item = self._queue.get()
                while item is not None:
                    group.append(item)
                    if len(group) >= LARGEST_GROUP:
                        break
                    try:
                        item = self._queue.get_nowait()
                    except queue.Empty:
                        break
                going = item is not None
                if group:
                    _commit(connection, group)
                    _answer(group)


class _GroupLost(Exception):
    """SQLite has rolled back the whole transaction by itself (disk full, input/output error)."""


def _commit(connection: Connection, group: list[_Write]) -> None:
    """Run every function of the group; when the commit fails, all of them have failed."""
    try:
        with connection.begin():
            for write in group:
                _run(connection, write)
    except BaseException as error:
        reason = error.__cause__ if isinstance(error, _GroupLost) and error.__cause__ else error
        if not isinstance(reason, OperationalError):
            logger.exception(
                "a group of %d transactions failed", len(group), extra={"action": "store-commit"}
            )
        for write in group:
            write.result, write.error = None, reason


def _run(connection: Connection, write: _Write) -> None:
    if write.future.cancelled():
        return
    cause: BaseException | None = None
    try:
        with connection.begin_nested():
            try:
                write.result = write.run(connection)
            except BaseException as error:
                cause = error  # rolling back may fail too, and that would hide why
                raise
    except BaseException as error:
        write.error = cause or error
        driver: object = connection.connection.dbapi_connection
        if not isinstance(driver, sqlite3.Connection) or not driver.in_transaction:
            raise _GroupLost from write.error


def _answer(group: list[_Write]) -> None:
    """Wake the callers: one call into the event loop for all of a group."""
    loops = {write.loop for write in group}
    for loop in loops:
        mine = [write for write in group if write.loop is loop]
        try:
            loop.call_soon_threadsafe(_resolve, mine)
        except RuntimeError:  # the loop has been closed: nobody waits any more
            logger.debug("%d transactions were stored for a closed event loop", len(mine))


def _resolve(group: list[_Write]) -> None:
    for write in group:
        if write.future.done():
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(write.result)


def _engine(path: Path, begin: str) -> Engine:
    """An SQLAlchemy engine whose transactions begin as `begin` says, and whose connections belong to threads."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            os.fspath(path), timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=NullPool,
        hide_parameters=True,  # an error in a log must not carry values of rows: they may be secrets
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _to_json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
