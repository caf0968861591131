"""What a fault is, as somebody asks for it. Pure: no clock, no request, no socket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

JsonObject = dict[str, Any]
Value = str | int | float | bool


class FaultRefused(ValueError):
    """A fault that cannot be: what is wrong with it, and what would be right."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class NoSuchFault(LookupError):
    """No fault has this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which requests are meant: all that has been named has to fit; of each, one."""

    verbs: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """`core` or an empty word is the group without a name."""
    resources: tuple[str, ...] = ()
    """Plural, singular, kind or short name."""
    subresources: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    user_agents: tuple[str, ...] = ()
    users: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """What has been named."""
        return tuple(one.name for one in fields(self) if getattr(self, one.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One fault. `kinds.checked` says whether it can be."""

    kind: str
    match: Match = field(default_factory=Match)
    probability: float = 1.0
    count: int | None = None
    """How many times it strikes; None: as long as it is set."""
    seed: int = 0
    seconds: float | None = None
    """How long it is set; None: until it is removed."""
    preset: str = ""
    """The story that it came with."""
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Flat: the members of the match beside the others."""
        value = asdict(self)
        return {**value.pop("match"), **value}


_WORDS = tuple(one.name for one in fields(Match))


def from_json(value: Mapping[str, Any]) -> Spec:
    """The fault that `to_json` has written, or a person. Raises FaultRefused."""
    unknown = set(value) - {
        "kind",
        "probability",
        "count",
        "seed",
        "seconds",
        "preset",
        "parameters",
        *_WORDS,
    }
    if unknown:
        raise FaultRefused(f"A fault has no {sorted(unknown)[0]!r}.")
    parameters = value.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise FaultRefused("The parameters of a fault are an object.")
    return Spec(
        kind=str(value.get("kind", "")),
        match=Match(**{name: _words(name, value.get(name)) for name in _WORDS}),
        probability=_number("probability", value.get("probability"), 1.0),
        count=_whole("count", value.get("count")),
        seed=_whole("seed", value.get("seed")) or 0,
        seconds=_number("seconds", value["seconds"], 0.0) if value.get("seconds") is not None else None,
        preset=str(value.get("preset") or ""),
        parameters={str(key): one for key, one in parameters.items() if one is not None},
    )


def _words(name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise FaultRefused(f"{name} is a list of words, not {value!r}.", remedy=f"Write {name}=[{value!r}].")
    return tuple(str(one) for one in value)


def _number(name: str, value: object, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FaultRefused(f"{name} is a number, not {value!r}.")
    return float(value)


def _whole(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise FaultRefused(f"{name} is a whole number, not {value!r}.")
    return value
