"""I1 to I13 as properties: three servers, any interleaving of what they may do, a clock that the test turns.

Every statement of the engine is a function of a connection and a moment, so that the machine below can play servers
that die, sleep through their lease and wake up, and check after each move what must be true of the database.
"""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Connection, create_engine, select

from whimbrel.model.errors import Conflict
from whimbrel.model.status import RequestState
from whimbrel.store import queue, requests, schema, steps, things
from whimbrel.store.leases import LostLease
from whimbrel.store.requests import NewEvent, Request
from whimbrel.store.tables import events as events_table
from whimbrel.store.tables import requests as requests_table
from whimbrel.store.tables import steps as steps_table

SERVERS = ("a", "b", "c")
SUBJECTS = ("cluster:x", "cluster:y")
KINDS = {"a": ("launch", "down"), "b": ("launch", "down"), "c": ("launch", "down", "future")}
LEASE = 15.0
NAMES = ("create", "configure")


@dataclass(frozen=True)
class Thing:
    """What a step is about to create."""

    token: str
    kind: str = "Pod"
    name: str = "n"
    namespace: str = "default"
    labels: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", {"app": "x"})


@dataclass
class Held:
    """What a server believes: it owns this request, and has done so much of it."""

    request: Request
    server: str
    intended: str | None = None


def _steps(db: Connection, request: str) -> list[tuple[Any, ...]]:
    """All steps of a request."""
    query = select(steps_table).where(steps_table.c.request == request).order_by(steps_table.c.started_at)
    return [tuple(row) for row in db.execute(query)]


class Servers(RuleBasedStateMachine):
    """Any order of what servers, users and time may do."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = create_engine("sqlite://")
        self.db = self.engine.connect()
        schema.create(self.db)
        self.now = 1000.0
        self.count = 0
        self.held: list[Held] = []  # also what was lost without being told: zombies
        self.final: dict[str, Request] = {}
        self.effects: set[str] = set()  # what exists outside

    def teardown(self) -> None:
        self.db.close()
        self.engine.dispose()

    # ------------------------------------------------------------ what users do

    @rule(kind=st.sampled_from(("launch", "launch", "down", "future")), subject=st.sampled_from(SUBJECTS))
    def submit(self, kind: str, subject: str) -> None:
        self.count += 1
        self._accept(f"r{self.count:03}", kind, subject, {"n": self.count})

    @precondition(lambda self: self.count > 0)
    @rule(data=st.data())
    def submit_again(self, data: st.DataObject) -> None:
        """I1: the same key and content are the same request; the same key with another content is refused."""
        known = requests.get(self.db, f"r{data.draw(st.integers(1, self.count)):03}")
        body = {"n": int(known.id[1:])}
        assert self._accept(known.id, known.kind, known.subject, body).seq == known.seq
        for kind, subject, other in ((known.kind, known.subject, {"n": 0}), ("else", known.subject, body)):
            with pytest.raises(Conflict):
                self._accept(known.id, kind, subject, other)

    @precondition(lambda self: self.count > 0)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = f"r{data.draw(st.integers(1, self.count)):03}"
        before = requests.get(self.db, id)
        after = requests.ask_to_cancel(self.db, id, actor="me", reason="no", now=self.now)
        if before.state is RequestState.QUEUED:
            assert after.state is RequestState.CANCELLED
        elif before.state is RequestState.RUNNING:
            assert (after.state, after.cancel_requested_at is not None) == (RequestState.RUNNING, True)
        else:
            assert after == before

    # ------------------------------------------------------------ what time and servers do

    @rule(seconds=st.sampled_from((1.0, 6.0, LEASE + 1)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(server=st.sampled_from(SERVERS))
    def claim(self, server: str) -> None:
        earlier = {
            row.subject: row for row in reversed(requests.live(self.db))
        }  # the oldest live request of each subject
        got = queue.claim(self.db, kinds=KINDS[server], owner=server, lease=LEASE, now=self.now)
        if got is None:
            ready = [
                row
                for row in earlier.values()
                if row.state is RequestState.QUEUED and row.kind in KINDS[server]
            ]
            assert all(row.due_at > self.now for row in ready), "nothing that could run is left lying"
            return
        assert got.kind in KINDS[server], "I13: only kinds that it knows"
        assert earlier[got.subject].id == got.id, "I11: in the order in which they were accepted"
        assert (got.owner, got.lease_until) == (server, self.now + LEASE)
        self.held.append(Held(got, server))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), what=st.sampled_from(("intend", "intend", "complete", "complete", "log", "finish")))
    def work(self, data: st.DataObject, what: str) -> None:
        """I2: whoever holds the fence writes; whoever held it before writes nothing at all."""
        held = data.draw(st.sampled_from(self.held))
        owns = self._owns(held)
        before = self._snapshot(held.request.id)
        try:
            self._work(held, what)
        except LostLease:
            assert not owns
            assert self._snapshot(held.request.id) == before
            self.held.remove(held)
        else:
            assert owns

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        owns = self._owns(held)
        (renewal,) = queue.renew(self.db, [(held.request.id, held.request.fence, LEASE)], now=self.now)
        assert renewal.held == owns
        row = requests.get(self.db, held.request.id)
        if owns:
            assert row.lease_until == self.now + LEASE
            assert (renewal.cancel_reason is not None) == (row.cancel_requested_at is not None)

    @rule(server=st.sampled_from(SERVERS))
    def reap(self, server: str) -> None:
        """I6, I8: anybody takes away what has an ended lease, and nothing else; the fifth loss is the last."""
        due = [row for row in self._running() if row.lease_until is not None and row.lease_until < self.now]
        taken = queue.reap(self.db, by=server, now=self.now)
        assert {row.id for row in taken} == {row.id for row in due}
        for row, before in ((requests.get(self.db, row.id), row) for row in due):
            assert row.losses == before.losses + 1
            self._check_given_back(row, before, poison=row.losses >= queue.MOST_LOSSES)
        assert queue.reap(self.db, by=server, now=self.now) == []

    @rule(server=st.sampled_from(SERVERS))
    def drain(self, server: str) -> None:
        """I7: a server that leaves hands everything back, due at once, and nothing counts it."""
        mine = [row for row in self._running() if row.owner == server]
        assert set(queue.give_back(self.db, owner=server, why="shutdown", now=self.now)) == {
            row.id for row in mine
        }
        for row, before in ((requests.get(self.db, row.id), row) for row in mine):
            assert (row.losses, row.failures) == (before.losses, before.failures)
            self._check_given_back(row, before, poison=False)

    # ------------------------------------------------------------ what must be true after every move

    @invariant()
    def terminal_is_final(self) -> None:
        """I4."""
        for id, known in self.final.items():
            assert requests.get(self.db, id) == known
        for row in requests.newest(self.db, limit=1000):
            if row.state.finished:
                self.final.setdefault(row.id, row)

    @invariant()
    def one_runs_per_subject(self) -> None:
        """I11."""
        running = [row.subject for row in self._running()]
        assert len(running) == len(set(running))

    @invariant()
    def events_are_dense(self) -> None:
        """I12."""
        for row in requests.newest(self.db, limit=1000):
            numbers = [event.idx for event in requests.events_after(self.db, row.id, 0)]
            assert numbers == list(range(1, row.events + 1))
            assert [event.idx for event in requests.events_after(self.db, row.id, 2)] == numbers[2:]

    @invariant()
    def nobody_writes_after_it_lost_the_request(self) -> None:
        """I2, as a reader of the events sees it: between two claims only the first claimer writes progress."""
        for row in requests.newest(self.db, limit=1000):
            owner = None
            for event in requests.events_after(self.db, row.id, 0):
                if event.kind == "claimed":
                    owner = event.actor
                elif event.kind in ("log", "step"):
                    assert event.actor == owner
                elif event.kind in ("requeued", "finished"):
                    owner = None

    @invariant()
    def what_exists_is_in_the_ledger(self) -> None:
        """I3: the database knows a superset of what exists."""
        assert self.effects <= {entry.token for entry in things.left(self.db)}

    @invariant()
    def finished_exactly_once(self) -> None:
        rows = (
            self.db.execute(select(events_table.c.request).where(events_table.c.kind == "finished"))
            .scalars()
            .all()
        )
        assert len(rows) == len(set(rows))
        finished = self.db.execute(
            select(requests_table.c.id).where(requests_table.c.finished_at.is_not(None))
        )
        assert set(rows) == set(finished.scalars())

    # ------------------------------------------------------------ helpers

    def _accept(self, id: str, kind: str, subject: str, body: dict[str, Any]) -> Request:
        return requests.accept(
            self.db, id=id, kind=kind, subject=subject, body=body, actor="me", now=self.now
        )

    def _running(self) -> list[Request]:
        return [row for row in requests.live(self.db) if row.state is RequestState.RUNNING]

    def _owns(self, held: Held) -> bool:
        row = requests.get(self.db, held.request.id)
        return row.state is RequestState.RUNNING and row.fence == held.request.fence

    def _snapshot(self, id: str) -> object:
        return (
            requests.get(self.db, id),
            requests.events_after(self.db, id, 0),
            _steps(self.db, id),
            things.left(self.db),
        )

    def _work(self, held: Held, what: str) -> None:
        """One transaction of an operation, as `Run` makes it, with the outside call where it belongs."""
        id, fence, at = held.request.id, held.request.fence, self.now
        with self.db.begin_nested():
            queue.prove(self.db, id, fence)
            if what == "log":
                queue.record(self.db, id, fence, [NewEvent(kind="log")] * 2, owner=held.server, now=at)
            elif what == "finish":
                queue.finish(self.db, id, fence, RequestState.SUCCEEDED, owner=held.server, now=at, output={})
            elif what == "intend":
                todo = [name for name in NAMES if not ((step := steps.find(self.db, id, name)) and step.done)]
                if todo:
                    held.intended = todo[0]
                    token = f"k8s/x/Pod/default/{id}-{todo[0]}/uid"
                    steps.intend(self.db, id, todo[0], deadline=60, now=at)
                    things.intend(self.db, [Thing(token)], subject=held.request.subject, request=id, now=at)
            elif held.intended is not None:
                steps.complete(self.db, id, held.intended, output={"name": held.intended}, now=at)
                event = NewEvent(kind="step", data={"name": held.intended, "state": "done"})
                queue.record(self.db, id, fence, [event], owner=held.server, now=at)
        if what == "intend" and held.intended is not None:
            self.effects.add(f"k8s/x/Pod/default/{id}-{held.intended}/uid")

    def _check_given_back(self, row: Request, before: Request, *, poison: bool) -> None:
        if before.cancel_requested_at is not None:
            assert row.state is RequestState.CANCELLED, "nobody takes up again what was cancelled"
        elif poison:
            assert row.state is RequestState.FAILED
            assert row.error is not None
            assert "5 servers died" in row.error["message"]
        else:
            assert (row.state, row.owner, row.due_at) == (RequestState.QUEUED, None, self.now)


Servers.TestCase.settings = settings(
    derandomize=True,
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would take minutes; forty moves can be read
)
TestServers = Servers.TestCase


def test_the_fifth_loss_fails_a_request_and_it_is_never_claimed_again() -> None:
    """I8, straight: the machine above finds it seldom."""
    engine = create_engine("sqlite://")
    with engine.connect() as db:
        schema.create(db)
        requests.accept(
            db, id="r", kind="k", subject="s", body={"secrets": {"T": "hunter2"}}, actor="me", now=0.0
        )
        for loss in range(1, 6):
            claimed = queue.claim(db, kinds=["k"], owner="a", lease=1, now=loss * 10.0)
            assert claimed is not None
            assert claimed.body["secrets"]["T"] == "hunter2"
            (row,) = queue.reap(db, by="b", now=loss * 10.0 + 5)
            assert row.losses == loss
        assert row.state is RequestState.FAILED
        assert "hunter2" not in str(row.body), "secrets go when the request has finished"
        assert queue.claim(db, kinds=["k"], owner="a", lease=1, now=999.0) is None
    engine.dispose()


def test_what_was_put_off_by_our_own_fault_comes_back_later() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as db:
        schema.create(db)
        requests.accept(db, id="r", kind="k", subject="s", body={}, actor="me", now=0.0)
        claimed = queue.claim(db, kinds=["k"], owner="a", lease=1, now=0.0)
        assert claimed is not None
        queue.put_off(db, "r", claimed.fence, delay=30, why="disk full", owner="a", now=1.0)
        assert queue.claim(db, kinds=["k"], owner="a", lease=1, now=30.0) is None
        again = queue.claim(db, kinds=["k"], owner="a", lease=1, now=31.0)
        assert again is not None
        assert (again.failures, again.losses, again.fence) == (1, 0, 2)
    engine.dispose()


def test_finished_requests_are_pruned_with_their_steps_and_events_and_the_ledger_stays() -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as db:
        db.exec_driver_sql("PRAGMA foreign_keys=ON")
        schema.create(db)
        for id in ("old", "live"):
            requests.accept(db, id=id, kind="k", subject=id, body={}, actor="me", now=0.0)
        claimed = queue.claim(db, kinds=["k"], owner="a", lease=1, now=0.0)
        assert claimed is not None
        steps.intend(db, "old", "create", deadline=1, now=0.0)
        things.intend(db, [Thing("k8s/x/Pod/default/n/uid")], subject="s", request="old", now=0.0)
        queue.finish(db, "old", claimed.fence, RequestState.SUCCEEDED, owner="a", now=5.0)
        assert requests.prune(db, finished_before=5.0) == 0
        assert requests.prune(db, finished_before=6.0) == 1
        assert requests.find(db, "old") is None
        assert requests.find(db, "live") is not None
        assert _steps(db, "old") == []
        assert requests.events_after(db, "old", 0) == []
        assert len(things.left(db)) == 1
        assert requests.count_by_state(db) == {"queued": 1}
    engine.dispose()
