"""Lists, sets, optionals, and the functions of `math`."""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import pairwise
from typing import Any

from kubesim.schema.cel.functions import Function, define
from kubesim.schema.cel.values import (
    NONE,
    TOO_MUCH,
    CelError,
    Optional,
    as_int,
    contains,
    equal,
    less,
    pay,
    some,
)

# Lists and sets


def _sorted(values: list[Any]) -> bool:
    return all(not less(other, one) for one, other in pairwise(values))


def _extreme(pick: str) -> Function:
    def found(values: list[Any]) -> Any:
        if not values:
            raise CelError(f"{pick} called on empty list")
        best = values[0]
        for one in values[1:]:
            if less(one, best) if pick == "min" else less(best, one):
                best = one
        return best

    return found


def _sum(values: list[Any]) -> Any:
    made: Any = 0
    for at, one in enumerate(values):
        if not isinstance(one, int | float | timedelta) or isinstance(one, bool):
            raise CelError("no such overload")
        made = one if at == 0 else made + one
    return as_int(made) if type(made) is int else made


def _position(order: int) -> Function:
    def found(values: list[Any], wanted: Any) -> int:
        places = range(len(values))[::order]
        return next((at for at in places if equal(values[at], wanted)), -1)

    return found


def _distinct(values: list[Any]) -> list[Any]:
    made: list[Any] = []
    for one in values:
        if not contains(made, one):
            made.append(one)
    return made


def _slice(values: list[Any], start: int, end: int) -> list[Any]:
    if not 0 <= start <= end <= len(values):
        raise CelError(f"cannot slice({start}, {end}), list is length {len(values)}")
    return values[start:end]


def _flat(values: list[Any], depth: int = 1) -> list[Any]:
    made: list[Any] = []
    pay(len(values))
    for one in values:
        made += _flat(one, depth - 1) if isinstance(one, list) and depth > 0 else [one]
    return made


def _order(values: list[Any]) -> list[Any]:
    pay(len(values))
    for one in values[1:]:
        less(values[0], one)
    return sorted(values)


def _range(end: int) -> list[int]:
    if end > 1_000_000:
        raise CelError(TOO_MUCH)
    pay(max(end, 0))
    return list(range(end))


def _all_in(values: list[Any], wanted: list[Any]) -> bool:
    return all(contains(values, one) for one in wanted)


define("isSorted", "l.:b", _sorted)
define("sum", "l.:*", _sum)
define("min", "l.:*", _extreme("min"))
define("max", "l.:*", _extreme("max"))
define("indexOf", "l.*:i", _position(1))
define("lastIndexOf", "l.*:i", _position(-1))
define("distinct", "l.:l", _distinct)
define("slice", "l.ii:l", _slice)
define("flatten", "l.:l l.i:l", _flat)
define("sort", "l.:l", _order)
define("first", "l.:o", lambda values: some(values[0]) if values else NONE)
define("last", "l.:o", lambda values: some(values[-1]) if values else NONE)
define("lists.range", "i:l", _range)
define("includes", "l.*:b", contains)
define("sets.contains", "ll:b", _all_in)
define("sets.equivalent", "ll:b", lambda one, other: _all_in(one, other) and _all_in(other, one))
define("sets.intersects", "ll:b", lambda one, other: any(contains(one, value) for value in other))


# Optionals, numbers


def _value(one: Optional) -> Any:
    if not one.there:
        raise CelError("optional.none() dereference")
    return one.value


def _is_zero(value: Any) -> bool:
    return value is None or (isinstance(value, bool | int | float | str | bytes | list | dict) and not value)


define("optional.of", "*:o", some)
define("optional.none", ":o", lambda: NONE)
define("optional.ofNonZeroValue", "*:o", lambda value: NONE if _is_zero(value) else some(value))
define("hasValue", "o.:b", lambda one: one.there)
define("value", "o.:*", _value)
define("orValue", "o.*:*", lambda one, other: one.value if one.there else other)
define("or", "o.o:o", lambda one, other: one if one.there else other)


def _rounded(value: float) -> float:
    return math.copysign(math.floor(abs(value) + 0.5), value) if math.isfinite(value) else value


def _best(pick: str) -> Function:
    def found(*values: Any) -> Any:
        return _extreme(pick)(list(values[0]) if isinstance(values[0], list) else list(values))

    return found


for _name, _pick in (("math.greatest", "max"), ("math.least", "min")):
    define(_name, "l:* i:i u:u d:d **:* ***:* ****:* *****:*", _best(_pick))
define("math.abs", "i:i", lambda value: as_int(abs(value)))
define("math.abs", "u:u", lambda value: value)
define("math.abs", "d:d", abs)
define("math.sign", "i:i", lambda value: (value > 0) - (value < 0))
define("math.sign", "d:d", lambda value: float((value > 0) - (value < 0)))
define("math.ceil", "d:d", lambda value: float(math.ceil(value)) if math.isfinite(value) else value)
define("math.floor", "d:d", lambda value: float(math.floor(value)) if math.isfinite(value) else value)
define("math.round", "d:d", _rounded)
define("math.trunc", "d:d", lambda value: float(math.trunc(value)) if math.isfinite(value) else value)
define("math.sqrt", "d:d i:d u:d", lambda value: math.sqrt(value) if value >= 0 else math.nan)
define("math.isNaN", "d:b", math.isnan)
define("math.isInf", "d:b", math.isinf)
define("math.isFinite", "d:b", math.isfinite)
define("math.bitAnd", "ii:i", lambda a, b: a & b)
define("math.bitOr", "ii:i", lambda a, b: a | b)
define("math.bitXor", "ii:i", lambda a, b: a ^ b)
define("math.bitNot", "i:i", lambda a: ~a)
