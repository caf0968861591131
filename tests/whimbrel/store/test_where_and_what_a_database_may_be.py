"""Places and files that are refused, by name, and the ways to the present schema."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, event

from whimbrel.model.errors import StoreUnusable
from whimbrel.store import location, schema
from whimbrel.store.engine import Store
from whimbrel.store.tables import REVISION, metadata

MOUNTS = (
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "30 22 0:40 / /home rw shared:2 - nfs4 server:/home rw\n"
    "31 30 8:2 / /home/me/with\\040space rw - xfs /dev/sdb rw\n"
    "32 22 0:50 / /mnt rw - fuse.sshfs box:/ rw\n"
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/state.db", "ext4"),
        ("/home/me/.whimbrel/state.db", "nfs4"),
        ("/home/me/with space/state.db", "xfs"),
        ("/mnt/x", "fuse.sshfs"),
        ("/homestead/x", "ext4"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_innermost_mount(path: str, kind: str) -> None:
    assert location.file_system(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_refused_by_name_and_left_alone(tmp_path: Path) -> None:
    mounts = MOUNTS + f"40 22 0:60 / {tmp_path} rw - nfs4 server:/x rw\n"
    with pytest.raises(StoreUnusable, match=r"network file system \(nfs4\)") as refused:
        location.prepare(tmp_path / "home" / "state.db", mounts)
    assert "WHIMBREL_HOME" in str(refused.value.remedy)
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_network_file_system_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "remote").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "remote")
    mounts = MOUNTS + f"40 22 0:60 / {tmp_path}/remote rw - cifs //server/x rw\n"
    with pytest.raises(StoreUnusable, match="cifs"):
        location.prepare(tmp_path / "home" / "state.db", mounts)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match=r"file/state\.db cannot be opened"):
        Store.open(tmp_path / "file" / "state.db")


def test_a_file_that_is_no_database_is_kept_and_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is a diary, not a database" * 200)
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="file is not a database") as refused:
        Store.open(path)
    assert "move" in str(refused.value.remedy)
    assert path.read_bytes() == before


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as other:
        other.execute("CREATE TABLE recipes (id)")
    other.close()
    with pytest.raises(StoreUnusable, match="not one of whimbrel's"):
        Store.open(tmp_path / "state.db")


def test_a_database_of_a_newer_whimbrel_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path / "state.db").close()
    with sqlite3.connect(tmp_path / "state.db") as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
    other.close()
    with pytest.raises(StoreUnusable, match=r"newer whimbrel \(schema 9999; this one knows up to") as refused:
        Store.open(tmp_path / "state.db")
    assert "pip install --upgrade" in str(refused.value.remedy)


def _migrated() -> Connection:
    """A database that was made by the migrations alone."""
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", lambda driver, _: setattr(driver, "isolation_level", None))
    connection = engine.connect()
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return connection


def _shape(connection: Connection) -> dict[str, object]:
    """Every table, column, index and constraint, as SQLite sees it."""
    shape: dict[str, object] = {}
    for kind, name, sql in connection.exec_driver_sql(
        "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    ).all():
        if kind == "table":
            shape[name] = connection.exec_driver_sql(f"PRAGMA table_info({name})").all()
            if name == "alembic_version":
                continue  # written by hand on one side
            shape[f"{name} checks"] = sorted(
                line.strip(" ,\t") for line in str(sql).splitlines() if "CONSTRAINT" in line
            )
        else:
            shape[name] = " ".join(str(sql).split())
    return shape


def test_the_migrations_and_the_tables_are_one_schema() -> None:
    migrated = _migrated()
    assert schema.revision(migrated) == REVISION, (
        "a new migration needs a new REVISION, and the other way round"
    )
    assert compare_metadata(MigrationContext.configure(migrated), metadata) == []
    engine = create_engine("sqlite://")
    with engine.connect() as created:
        schema.create(created)
        assert _shape(created) == _shape(migrated)
    engine.dispose()
    migrated.close()
    migrated.engine.dispose()


NEXT = f"{int(REVISION) + 1:04}"
NEXT_REVISION = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{REVISION}"


def upgrade() -> None:
    op.create_table("workspaces", sa.Column("id", sa.Text(), primary_key=True))
    FAIL
"""


@pytest.fixture
def next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whimbrel with one migration more than this one."""
    shutil.copytree(schema.MIGRATIONS, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path / "migrations")
    monkeypatch.setattr(schema, "REVISION", NEXT)
    return tmp_path / "migrations" / "versions" / f"{NEXT}_workspaces.py"


def test_a_database_that_is_behind_is_migrated_when_it_is_opened(
    tmp_path: Path, next_revision: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(schema, "REVISION", REVISION)
        Store.open(tmp_path / "state.db").close()
    next_revision.write_text(NEXT_REVISION.replace("FAIL", ""))
    Store.open(tmp_path / "state.db").close()
    with sqlite3.connect(tmp_path / "state.db") as other:
        assert other.execute("SELECT version_num FROM alembic_version").fetchall() == [(NEXT,)]
        assert other.execute("SELECT count(*) FROM workspaces").fetchall() == [(0,)]
    other.close()


def test_a_migration_that_fails_leaves_the_old_schema(
    tmp_path: Path, next_revision: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(schema, "REVISION", REVISION)
        Store.open(tmp_path / "state.db").close()
        next_revision.write_text(NEXT_REVISION.replace("FAIL", "raise RuntimeError('power cut')"))
    with pytest.raises(RuntimeError, match="power cut"):
        Store.open(tmp_path / "state.db")
    with sqlite3.connect(tmp_path / "state.db") as other:
        assert other.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]
        assert other.execute("SELECT 1 FROM sqlite_master WHERE name = 'workspaces'").fetchall() == []
    other.close()
