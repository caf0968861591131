"""The crash harness: real server processes, kill -9, SIGSTOP longer than the lease, and a control that must fail.

Nothing may be lost, nothing finished twice, nothing exist twice, and no server may write for a request after another
one has taken it over. The control switches the proof of the fence off and has to show late writes: so the test can see
what it is looking for.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection

from whimbrel.store import clock, requests
from whimbrel.store.engine import Store

LEASE = 1.0
PROGRAM = Path(__file__).with_name("crash_server.py")


class World:
    """A database, a cloud, and the servers that work on them."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state.db"
        self.gate = directory / "gate"
        self.cloud = directory / "cloud.db"
        self.servers: list[subprocess.Popen[bytes]] = []
        Store.open(self.state).close()
        connection = sqlite3.connect(self.cloud)
        connection.execute("CREATE TABLE vms (name TEXT PRIMARY KEY, by TEXT)")
        connection.commit()
        connection.close()
        self.db = sqlite3.connect(self.state, timeout=20, isolation_level=None)

    def close(self) -> None:
        for server in self.servers:
            server.kill()
            server.wait(10)
            assert server.stdout is not None
            server.stdout.close()
        self.db.close()

    def start(self, *, fenced: bool = True) -> subprocess.Popen[bytes]:
        arguments = [
            sys.executable,
            str(PROGRAM),
            str(self.state),
            str(self.cloud),
            str(self.gate),
            str(LEASE),
        ]
        server = subprocess.Popen(arguments + ([] if fenced else ["unfenced"]), stdout=subprocess.PIPE)
        self.servers.append(server)
        return server

    @staticmethod
    def id_of(server: subprocess.Popen[bytes]) -> str:
        """The server's id; it has started when it tells it."""
        assert server.stdout is not None
        return server.stdout.readline().decode().strip()

    def submit(self, count: int, subjects: int, **body: str) -> list[str]:
        """Each request is sent twice, as a client does that lost the answer."""
        ids = [str(uuid.uuid4()) for _ in range(count)]
        accept = requests.accept

        def both(connection: Connection) -> None:
            for n, id in enumerate(ids):
                for _ in range(2):
                    subject = f"cluster:{n % subjects}"
                    accept(
                        connection,
                        id=id,
                        kind="launch",
                        subject=subject,
                        body=body,
                        actor="me",
                        now=clock.now(),
                    )

        with Store.open(self.state) as store, store._writing.connect() as connection, connection.begin():
            both(connection)
        return ids

    def ask(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        return self.db.execute(sql, values).fetchall()

    def until(self, what: str, true: Callable[[], object], seconds: float = 30) -> None:
        ends = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < ends, f"waited {seconds} s for: {what}"
            time.sleep(0.02)

    def stop(self, server: subprocess.Popen[bytes]) -> None:
        """SIGSTOP, but not inside a transaction: SQLite's lock would stop everybody, zombie or not."""
        for _ in range(50):
            os.kill(server.pid, signal.SIGSTOP)
            if self._can_write(0.2):
                return
            os.kill(server.pid, signal.SIGCONT)
            assert self._can_write(20), "a server that runs ends its transaction"
        raise AssertionError("the server is always inside a transaction")

    def _can_write(self, seconds: float) -> bool:
        probe = sqlite3.connect(self.state, timeout=seconds, isolation_level=None)
        try:
            probe.execute("BEGIN IMMEDIATE")
            probe.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        finally:
            probe.close()
        return True

    def owns_nothing(self, server_id: str) -> bool:
        return not self.ask("SELECT 1 FROM requests WHERE owner = ?", server_id)

    def finished(self) -> int:
        return len(self.ask("SELECT 1 FROM requests WHERE state = 'succeeded'"))

    def vms(self) -> int:
        connection = sqlite3.connect(self.cloud, timeout=20)
        try:
            return int(connection.execute("SELECT count(*) FROM vms").fetchone()[0])
        finally:
            connection.close()

    def late_writes(self) -> list[tuple[object, ...]]:
        """Events that a server wrote for a request which was not its own then (or finished already)."""
        late: list[tuple[object, ...]] = []
        owner: dict[object, object] = {}
        for request, idx, actor, kind in self.ask(
            "SELECT request, idx, actor, kind FROM events ORDER BY request, idx"
        ):
            if kind == "claimed":
                owner[request] = actor
            elif kind in ("requeued", "submitted"):
                owner[request] = None
            elif owner.get(request) != actor:
                late.append((request, idx, actor, kind))
            elif kind == "finished":
                owner[request] = None
        return late

    def check_nothing_lost_and_nothing_twice(self, ids: list[str]) -> None:
        states = dict(self.ask("SELECT id, state FROM requests"))
        assert states == dict.fromkeys(ids, "succeeded")
        twice = "SELECT request FROM events WHERE kind = 'finished' GROUP BY request HAVING count(*) > 1"
        assert self.ask(twice) == []
        assert self.ask("SELECT 1 FROM steps WHERE state <> 'done'") == []
        gaps = "SELECT id FROM requests r WHERE events <> (SELECT count(*) FROM events WHERE request = r.id)"
        assert self.ask(gaps) == []
        assert self.vms() == 2 * len(ids)
        assert self.late_writes() == []


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_with_kill_9_and_zombies_nothing_is_lost_and_nothing_happens_twice(world: World) -> None:
    chance = random.Random(7)
    ids: list[str] = []
    alive = {world.id_of(server): server for server in [world.start() for _ in range(3)]}

    def busy() -> list[str]:
        return sorted(
            {str(owner) for (owner,) in world.ask("SELECT owner FROM requests WHERE state = 'running'")}
            & set(alive)
        )

    for fate in ("kill", "zombie", "kill", "zombie", "kill"):
        if len(ids) - world.finished() < 12:
            ids += world.submit(18, subjects=9)
        world.until("somebody works", busy)
        victim = chance.choice(busy() or sorted(alive))
        if fate == "kill":
            os.kill(alive.pop(victim).pid, signal.SIGKILL)
            fresh = world.start()
            alive[world.id_of(fresh)] = fresh
        else:
            world.stop(alive[victim])
            world.until("its work was taken away", partial(world.owns_nothing, victim))
            os.kill(alive[victim].pid, signal.SIGCONT)
    world.until("everything is done", lambda: world.finished() == len(ids), 60)
    world.check_nothing_lost_and_nothing_twice(ids)


def _zombie_wakes_up_after_another_server_has_finished(world: World, *, fenced: bool) -> list[str]:
    """A server stops in the middle of a step, its request is done by another one, and then it goes on."""
    ids = world.submit(1, subjects=1, stop_in="create")
    zombie = world.start(fenced=fenced)
    name = world.id_of(zombie)
    world.until("the zombie is in its step", world.gate.with_suffix(".reached").exists)
    world.stop(zombie)
    other = world.start(fenced=fenced)
    other_name = world.id_of(other)
    world.until("another server has done the work", lambda: world.finished() == 1)
    assert world.ask("SELECT json_extract(output, '$.by') FROM requests") == [(other_name,)]
    world.gate.touch()
    os.kill(zombie.pid, signal.SIGCONT)
    # the zombie has come to itself when it takes up new work, which it does after it has got rid of the old
    os.kill(other.pid, signal.SIGKILL)
    more = world.submit(1, subjects=1)
    world.until("the zombie works again", lambda: world.finished() == 2)
    assert world.ask("SELECT json_extract(output, '$.by') FROM requests WHERE id = ?", more[0]) == [(name,)]
    return [*ids, *more]


def test_a_zombie_that_wakes_up_writes_nothing(world: World) -> None:
    ids = _zombie_wakes_up_after_another_server_has_finished(world, fenced=True)
    world.check_nothing_lost_and_nothing_twice(ids)


def test_the_control_without_the_fence_shows_late_writes(world: World) -> None:
    _zombie_wakes_up_after_another_server_has_finished(world, fenced=False)
    late = world.late_writes()
    assert late, "without the fence the zombie writes into a request that is not its own: the test can see it"
