"""What the tests of the store share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine

from whimbrel.store import schema
from whimbrel.store.engine import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store in a directory of the test."""
    with Store.open(tmp_path / "state.db") as opened:
        yield opened


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A connection to an empty database in memory, in a transaction: for queries with a clock of the test's own."""
    engine = create_engine("sqlite://")
    with engine.connect() as opened:
        opened.exec_driver_sql("PRAGMA foreign_keys=ON")
        schema.create(opened)
        yield opened
        opened.rollback()
    engine.dispose()
