"""The values of CEL in Python, and when two are equal or one is less.

int, double, string, bytes, bool, null, list and map are Python's own; an unsigned integer is a UInt; times are datetime
(with a zone) and timedelta, which is one microsecond fine. True is not 1 here: `equal` looks at types.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

MOST_INT, LEAST_INT, MOST_UINT = 2**63 - 1, -(2**63), 2**64 - 1


class CelError(Exception):
    """An expression that has no value for what it was given."""


class UInt(int):
    """An unsigned integer."""


@dataclass(frozen=True, slots=True)
class Type:
    """A type as a value: `type(1) == int`."""

    name: str


class Opaque:
    """A value that only a library's functions can look into. `code` is its place in their signatures."""

    code: ClassVar[str]
    name: ClassVar[str]

    def member(self, name: str) -> Any:
        """`value.name`. Raises CelError where there is no such thing."""
        raise CelError("no such overload")


@dataclass(frozen=True, slots=True)
class Optional(Opaque):
    """A value, or none."""

    code: ClassVar[str] = "o"
    name: ClassVar[str] = "optional_type"
    value: Any = None
    there: bool = False


NONE = Optional()


def some(value: Any) -> Optional:
    return Optional(value, True)


class Instance(dict[str, Any]):
    """An object that an expression has made: `Object.spec{...}`, `JSONPatch{...}`."""

    def __init__(self, type_: str, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.type = type_


class Lazy(dict[str, Any]):
    """A map whose values are computed when they are first asked for."""

    def __init__(self, steps: Mapping[str, Callable[[], Any]]) -> None:
        super().__init__()
        self._steps = steps

    def __contains__(self, key: object) -> bool:
        return key in self._steps

    def __missing__(self, key: str) -> Any:
        self[key] = made = self._steps[key]()
        return made


TOO_MUCH = "operation cancelled: actual cost limit exceeded"
_BETWEEN_LOOKS = 2_000
"""After so many units the clock is looked at again."""


@dataclass(slots=True)
class Budget:
    """How much evaluations may still do: in units, as in the real server, and in seconds of the processor.

    The seconds are ours: evaluations run on the event loop, and a unit here takes many times what it takes in Go. They
    are those of this thread, so that a busy machine does not make a rule fail that holds on an idle one.
    """

    left: int = 1_000_000
    seconds: float = 0.1
    _until: float | None = field(default=None, init=False)
    _look_at: int = field(default=0, init=False)

    def spend(self, amount: int = 1) -> None:
        self.left -= amount
        if self.left < self._look_at:
            self._look()

    def _look(self) -> None:
        if self._until is not None and time.thread_time() > self._until:
            self.left = -1  # for good: `&&`, `all` and their like go on after an error
        if self.left < 0:
            raise CelError(TOO_MUCH)
        self._look_at = max(0, self.left - _BETWEEN_LOOKS)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within, `pay` pays from here and the seconds run; they do not while other tasks have the thread."""
        if self._until is not None:  # an expression that another one of the same budget asked for
            yield
            return
        outer = _PAYING.set(self)
        self._until = time.thread_time() + self.seconds
        self._look_at = self.left
        try:
            yield
        finally:
            self.seconds = self._until - time.thread_time()
            self._until = None
            _PAYING.reset(outer)


_PAYING: ContextVar[Budget | None] = ContextVar("kubesim_cel_budget", default=None)


def pay(amount: int) -> None:
    """What a function does beyond its fee. Raises CelError when the running expression cannot afford it."""
    budget = _PAYING.get()
    if budget is not None:
        budget.spend(amount)


_CODES: dict[type, str] = {
    bool: "b",
    int: "i",
    UInt: "u",
    float: "d",
    str: "s",
    bytes: "y",
    type(None): "n",
    list: "l",
    dict: "m",
    Instance: "m",
    Lazy: "m",
    datetime: "t",
    timedelta: "D",
    Type: "T",
}
NAMES = {
    **{"b": "bool", "i": "int", "u": "uint", "d": "double", "s": "string", "y": "bytes", "n": "null_type"},
    **{
        "l": "list",
        "m": "map",
        "t": "google.protobuf.Timestamp",
        "D": "google.protobuf.Duration",
        "T": "type",
    },
}


def code(value: Any) -> str:
    """The letter of a value's type in signatures."""
    found = _CODES.get(type(value))
    if found is not None:
        return found
    if isinstance(value, Opaque):
        return value.code
    raise CelError(f"unsupported value of type {type(value).__name__}")


def type_of(value: Any) -> Type:
    if isinstance(value, Instance):
        return Type(value.type)
    letter = code(value)
    return Type(value.name if isinstance(value, Opaque) else NAMES[letter])


def equal(one: Any, other: Any) -> bool:
    """CEL's equality: numbers of different types compare by value, everything else has to be of one type."""
    left, right = code(one), code(other)
    if left != right:
        return left in "iud" and right in "iud" and bool(one == other)
    if left == "l":
        pay(1 + len(one))
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    if left == "m":
        pay(1 + len(one))
        return len(one) == len(other) and all(
            key in other and equal(value, other[key]) for key, value in one.items()
        )
    if left == "o":
        return one.there == other.there and (not one.there or equal(one.value, other.value))
    return bool(one == other)


def less(one: Any, other: Any) -> bool:
    """Raises CelError for what has no order."""
    left, right = code(one), code(other)
    if (left in "iud" and right in "iud") or (left == right and left in "bstyD"):
        return bool(one < other)
    raise CelError("no such overload")


def contains(values: list[Any], wanted: Any) -> bool:
    pay(len(values))
    if type(wanted) in (str, bool):  # equal to nothing of another type: C compares much faster
        return any(one == wanted for one in values if type(one) is type(wanted))
    return any(equal(one, wanted) for one in values)


def as_int(value: int) -> int:
    """Raises CelError for what does not fit."""
    if not LEAST_INT <= value <= MOST_INT:
        raise CelError("integer overflow")
    return int(value)


def as_uint(value: int) -> UInt:
    if not 0 <= value <= MOST_UINT:
        raise CelError("unsigned integer overflow")
    return UInt(value)
