"""Functions by name and by the types of their arguments, with operators, conversions and times among them.

A signature is letters (see `values.code`): `s.si:s` is a method of strings that takes a string and an int and gives a
string, `si:s` a function; `*` is any type. `strings`, `collections` and `libraries` add their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from kubesim.schema.cel.values import (
    CelError,
    UInt,
    as_int,
    as_uint,
    contains,
    equal,
    less,
    type_of,
)

Function = Callable[..., Any]
_TABLE: dict[tuple[str, bool], list[tuple[str, str, Function]]] = {}


def define(name: str, signatures: str, function: Function) -> None:
    """Add a function under all these signatures (separated by spaces)."""
    for signature in signatures.split():
        types, _, result = signature.partition(":")
        receiver, dot, rest = types.partition(".")
        key = (name, bool(dot))
        _TABLE.setdefault(key, []).append((receiver + rest if dot else types, result, function))


def is_function(name: str, *, member: bool) -> bool:
    return (name, member) in _TABLE


@lru_cache(maxsize=8192)
def _found(name: str, member: bool, codes: str) -> tuple[str, Function] | None:
    for types, result, function in _TABLE.get((name, member), ()):
        if len(types) == len(codes) and all(
            want in ("*", have) for want, have in zip(types, codes, strict=True)
        ):
            return result, function
    return None


def overload(name: str, member: bool, codes: str) -> Function | None:
    """The function for arguments of these types."""
    found = _found(name, member, codes)
    return found[1] if found is not None else None


@lru_cache(maxsize=8192)
def results(name: str, member: bool, codes: str) -> frozenset[str]:
    """The types that a call may have, with `*` for arguments of unknown type; empty when no overload fits."""
    return frozenset(
        result
        for types, result, _ in _TABLE.get((name, member), ())
        if len(types) == len(codes)
        and all("*" in (want, have) or want == have for want, have in zip(types, codes, strict=True))
    )


# Operators


def _divided(one: int, other: int) -> int:
    if other == 0:
        raise CelError("division by zero")
    made = abs(one) // abs(other)
    return as_int(made if (one < 0) == (other < 0) else -made)


def _rest(one: int, other: int) -> int:
    if other == 0:
        raise CelError("modulus by zero")
    made = abs(one) % abs(other)
    return -made if one < 0 else made


def _ratio(one: float, other: float) -> float:
    if other == 0:
        return (
            math.nan
            if one == 0 or math.isnan(one)
            else math.copysign(math.inf, one) * math.copysign(1, other)
        )
    return one / other


def _moved(one: datetime, other: timedelta) -> datetime:
    try:
        return one + other
    except OverflowError:
        raise CelError("timestamp overflow") from None


def _in(value: Any, values: Any) -> bool:
    if isinstance(values, list):
        return contains(values, value)
    return not isinstance(value, list | dict) and value in values


for _operator, _ints, _doubles in (
    ("_+_", lambda a, b: a + b, lambda a, b: a + b),
    ("_-_", lambda a, b: a - b, lambda a, b: a - b),
    ("_*_", lambda a, b: a * b, lambda a, b: a * b),
):
    define(_operator, "ii:i", lambda a, b, do=_ints: as_int(do(a, b)))
    define(_operator, "uu:u", lambda a, b, do=_ints: as_uint(do(int(a), int(b))))
    define(_operator, "dd:d", _doubles)
define("_/_", "ii:i", _divided)
define("_/_", "uu:u", lambda a, b: UInt(_divided(int(a), int(b))))
define("_/_", "dd:d", _ratio)
define("_%_", "ii:i", _rest)
define("_%_", "uu:u", lambda a, b: UInt(_rest(int(a), int(b))))
define("_+_", "ss:s yy:y ll:l DD:D", lambda a, b: a + b)
define("_+_", "tD:t", _moved)
define("_+_", "Dt:t", lambda a, b: _moved(b, a))
define("_-_", "tt:D DD:D", lambda a, b: a - b)
define("_-_", "tD:t", lambda a, b: _moved(a, -b))
define("-_", "i:i", lambda a: as_int(-a))
define("-_", "d:d", lambda a: -a)
define("!_", "b:b", lambda a: not a)
define("@in", "*l:b *m:b", _in)
define("_==_", "**:b", equal)
define("_!=_", "**:b", lambda a, b: not equal(a, b))
_ORDERED = "bb:b ii:b uu:b dd:b iu:b ui:b id:b di:b ud:b du:b ss:b yy:b tt:b DD:b"
define("_<_", _ORDERED, less)
define("_>_", _ORDERED, lambda a, b: less(b, a))
define("_<=_", _ORDERED, lambda a, b: less(a, b) or equal(a, b))
define("_>=_", _ORDERED, lambda a, b: less(b, a) or equal(a, b))


# Conversions


def _int_of(value: Any) -> int:
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?\d+", value):
            raise CelError(f'strconv.ParseInt: parsing "{value}": invalid syntax')
        return as_int(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CelError("integer overflow")
        return as_int(int(value))
    if isinstance(value, datetime):
        return int(value.timestamp() // 1)
    if isinstance(value, timedelta):
        return value // timedelta(microseconds=1) * 1000
    return as_int(int(value))


def _uint_of(value: Any) -> UInt:
    if isinstance(value, str):
        if not re.fullmatch(r"\d+", value):
            raise CelError(f'strconv.ParseUint: parsing "{value}": invalid syntax')
        return as_uint(int(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise CelError("unsigned integer overflow")
    return as_uint(int(value))


def _double_of(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise CelError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None


def shown_double(value: float) -> str:
    """As Go prints it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def shown_duration(value: timedelta) -> str:
    micros = value // timedelta(microseconds=1)
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    seconds, rest = divmod(micros, 1_000_000)
    return f"{sign}{seconds}" + (f".{rest:06d}".rstrip("0") if rest else "") + "s"


def shown_time(value: datetime) -> str:
    text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{value.microsecond:06d}".rstrip("0") if value.microsecond else "") + "Z"


def string_of(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return shown_double(value)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None
        case datetime():
            return shown_time(value)
        case timedelta():
            return shown_duration(value)
    return str(value)


_TRUE, _FALSE = {"1", "t", "true", "TRUE", "True"}, {"0", "f", "false", "FALSE", "False"}


def _bool_of(value: Any) -> bool:
    if isinstance(value, str):
        if value in _TRUE or value in _FALSE:
            return value in _TRUE
        raise CelError(f"type conversion error from 'string' to 'bool': {value}")
    return bool(value)


_UNITS = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")


def duration(text: str) -> timedelta:
    """Go's `1h30m`. Raises CelError."""
    sign, body = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    parts = _PART.findall(body)
    if body != "0" and (not parts or "".join(a + b for a, b in parts) != body):
        raise CelError(f'time: invalid duration "{text}"')
    try:
        return timedelta(microseconds=sign * sum(float(number) * _UNITS[unit] for number, unit in parts))
    except OverflowError:
        raise CelError(f'time: invalid duration "{text}"') from None


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def timestamp(text: str) -> datetime:
    """RFC 3339. Raises CelError."""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        why = f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"'
        raise CelError(why) from None


define("int", "i:i u:i d:i s:i t:i D:i", _int_of)
define("uint", "u:u i:u d:u s:u", _uint_of)
define("double", "d:d i:d u:d s:d", _double_of)
define("string", "s:s i:s u:s d:s b:s y:s t:s D:s", string_of)
define("bytes", "y:y", lambda value: value)
define("bytes", "s:y", lambda value: value.encode())
define("bool", "b:b s:b", _bool_of)
define("duration", "s:D", duration)
define("duration", "D:D", lambda value: value)
define("duration", "i:D", lambda value: timedelta(microseconds=value / 1000))
define("timestamp", "s:t", timestamp)
define("timestamp", "t:t", lambda value: value)
define("timestamp", "i:t", lambda value: datetime.fromtimestamp(value, UTC))
define("dyn", "*:*", lambda value: value)
define("type", "*:T", type_of)
define("size", "s:i y:i l:i m:i s.:i y.:i l.:i m.:i", len)


# Times


def _zone(name: str) -> tzinfo:
    found = re.fullmatch(r"([+-]?)(\d\d):(\d\d)", name)
    if found:
        offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(-offset if found[1] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise CelError(f"unknown time zone {name}") from None


def _part(get: Callable[[datetime], int]) -> Callable[..., int]:
    return lambda value, zone="UTC": get(value.astimezone(_zone(zone)))


for _name, _get in {
    "getFullYear": lambda t: t.year,
    "getMonth": lambda t: t.month - 1,
    "getDayOfYear": lambda t: t.timetuple().tm_yday - 1,
    "getDayOfMonth": lambda t: t.day - 1,
    "getDate": lambda t: t.day,
    "getDayOfWeek": lambda t: t.isoweekday() % 7,
    "getHours": lambda t: t.hour,
    "getMinutes": lambda t: t.minute,
    "getSeconds": lambda t: t.second,
    "getMilliseconds": lambda t: t.microsecond // 1000,
}.items():
    define(_name, "t.:i t.s:i", _part(_get))


def _whole(value: timedelta, unit: timedelta) -> int:
    made = abs(value) // unit
    return -made if value < timedelta() else made


define("getHours", "D.:i", lambda value: _whole(value, timedelta(hours=1)))
define("getMinutes", "D.:i", lambda value: _whole(value, timedelta(minutes=1)))
define("getSeconds", "D.:i", lambda value: _whole(value, timedelta(seconds=1)))
define("getMilliseconds", "D.:i", lambda value: _whole(value, timedelta(milliseconds=1)))
