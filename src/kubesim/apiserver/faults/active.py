"""The faults that are set: which strike a request, how often they have, when they end.

Each fault has its own source of chance, and draws from it once for every request that it is about, whatever other
faults do: the same requests in the same order get the same faults twice. A fault that has struck as often as it may
is `spent`, one whose time has passed is `over`; both stay in the list until they are removed, so that one can see
what they did, but no more than the newest hundred.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Protocol

from kubesim.apiserver.faults.kinds import KINDS
from kubesim.apiserver.faults.matching import Seen, fits
from kubesim.apiserver.faults.spec import JsonObject, Spec, Value

ENDED_KEPT = 100


class Clock(Protocol):
    """What an event loop has of it."""

    def time(self) -> float: ...

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: object
    ) -> asyncio.TimerHandle: ...


class Fault:
    """One fault that is set, or was."""

    def __init__(self, id_: str, spec: Spec, now: float) -> None:
        self.id = id_
        self.spec = spec
        self.kind = KINDS[spec.kind]
        self.struck = 0
        self.state = "active"
        self.released = asyncio.Event()
        """Set when it is removed or over: who is held goes on."""
        self.ends = now + spec.seconds if spec.seconds is not None else None
        self.timer: asyncio.TimerHandle | None = None
        self._chance = random.Random(f"{spec.seed}/{spec.kind}")

    @property
    def active(self) -> bool:
        return self.state == "active"

    def get(self, name: str) -> Value | None:
        return self.spec.parameters.get(name)

    def number(self, name: str) -> float:
        value = self.get(name)
        return float(value) if isinstance(value, int | float) else 0.0

    def whole(self, name: str) -> int | None:
        value = self.get(name)
        return value if isinstance(value, int) else None

    def dice(self) -> random.Random:
        """A source of chance for this strike alone."""
        return random.Random(f"{self.spec.seed}/{self.spec.kind}/{self.struck}")

    def drawn(self) -> bool:
        """Whether chance wants it, this time."""
        return self.spec.probability >= 1 or self._chance.random() < self.spec.probability

    def strike(self) -> bool:
        """Count it; whether this was the last time."""
        self.struck += 1
        if self.spec.count is None or self.struck < self.spec.count:
            return False
        self.state = "spent"
        return True

    def end(self, state: str) -> None:
        """Strike no more, and let go of whom it holds."""
        self.state = state
        self.released.set()
        if self.timer is not None:
            self.timer.cancel()

    def to_json(self, now: float) -> JsonObject:
        left = max(0.0, round(self.ends - now, 3)) if self.ends is not None and self.state != "over" else None
        return {
            **self.spec.to_json(),
            "id": self.id,
            "state": self.state,
            "struck": self.struck,
            "left": left,
        }


class ActiveFaults:
    """All faults of one server, in the order in which they were set."""

    def __init__(self, clock: Clock, changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._faults: dict[str, Fault] = {}
        self._numbers = 0

    def add(self, specs: Iterable[Spec]) -> list[Fault]:
        """Set them, all at once."""
        added = []
        now = self._clock.time()
        for spec in specs:
            self._numbers += 1
            fault = Fault(f"{spec.kind}-{self._numbers}", spec, now)
            if spec.seconds is not None:
                fault.timer = self._clock.call_later(spec.seconds, self._over, fault)
            self._faults[fault.id] = fault
            added.append(fault)
        self._forget_old()
        self._changed()
        return added

    def find(self, id_: str) -> list[Fault]:
        """By its id, or all that came with the preset of that name."""
        return [one for one in self._faults.values() if id_ in (one.id, one.spec.preset)]

    def remove(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self._faults.pop(fault.id, None)
            fault.end("removed")
        self._changed()

    def all(self) -> list[Fault]:
        return list(self._faults.values())

    def active(self) -> list[Fault]:
        return [one for one in self._faults.values() if one.active]

    def strike(self, seen: Seen) -> list[Fault]:
        """Those that strike this request; of those that decide how it ends only the first."""
        struck: list[Fault] = []
        decided = False
        spent = False
        for fault in self._faults.values():
            kind = fault.kind
            if kind.connections or not fault.active or (seen.channel and not kind.channels):
                continue
            if kind.verbs and seen.verb not in kind.verbs:
                continue
            if not fits(fault.spec.match, seen) or not fault.drawn():
                continue
            if kind.outcome:
                if decided:
                    continue
                decided = True
            spent = fault.strike() or spent
            struck.append(fault)
        if spent:
            self._changed()
        return struck

    def strike_connection(self) -> Fault | None:
        """The one that strikes a new connection."""
        for fault in self._faults.values():
            if fault.kind.connections and fault.active and fault.drawn():
                if fault.strike():
                    self._changed()
                return fault
        return None

    def _over(self, fault: Fault) -> None:
        fault.end("over")
        self._changed()

    def _forget_old(self) -> None:
        ended = [one for one in self._faults.values() if not one.active]
        for fault in ended[:-ENDED_KEPT]:
            self.remove([fault])
