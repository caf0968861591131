"""Bring the schema of an opened database up to date: create it, leave it, migrate it, or refuse it.

A new database is created from `tables` at once; Alembic (230 ms of imports) is loaded only when an older database
has to be migrated. That both ways lead to the same schema is proven by a test.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from whimbrel.model.errors import StoreUnusable
from whimbrel.store.tables import REVISION, metadata

MIGRATIONS = Path(__file__).parent / "migrations"


def bring_up_to_date(connection: Connection, path: Path) -> None:
    """Inside the caller's transaction: after it the schema is `REVISION`, or nothing has changed."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        create(connection)
        return
    found = revision(connection) if "alembic_version" in tables else None
    if found == REVISION:
        return
    if found is None:
        raise StoreUnusable(
            f"{path} is a database, but not one of whimbrel's.",
            remedy="Move it away, or set WHIMBREL_HOME to another directory.",
        )
    _migrate(connection, path, found)


def create(connection: Connection) -> None:
    """All tables, and the stamp that says which revision they are."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(
        text("INSERT INTO alembic_version (version_num) VALUES (:revision)"), {"revision": REVISION}
    )


def revision(connection: Connection) -> str | None:
    """The stamp of the database."""
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return str(found) if found is not None else None


def _migrate(connection: Connection, path: Path, found: str) -> None:
    from alembic import command  # 230 ms: only when the schema is behind
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found not in known:
        raise StoreUnusable(
            f"{path} was written by a newer whimbrel (schema {found}; this one knows up to {REVISION}).",
            remedy="Upgrade: `pip install --upgrade whimbrel`.",
        )
    command.upgrade(config, REVISION)
