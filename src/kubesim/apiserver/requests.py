"""A request and its answer, without a wire: what the HTTP adapter and the in-process transport have in
common.

Handlers take an ApiRequest and give back a Reply (all of it is there) or a StreamReply (it goes on). Nothing
in here reads sockets, and no handler knows which of the two sides it serves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

from kubesim.schema.bodies import ReadYaml

JsonObject = dict[str, Any]

JSON = "application/json"
YAML = "application/yaml"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who asks. Groups decide: members of `system:masters` may do everything."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


ANONYMOUS = User(name="system:anonymous", groups=("system:unauthenticated",))


class Query:
    """The query of a URL; names may occur more than once."""

    __slots__ = ("_values",)

    def __init__(self, pairs: Sequence[tuple[str, str]] = ()) -> None:
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        self._values = values

    @classmethod
    def parse(cls, text: str) -> Query:
        return cls(parse_qsl(text, keep_blank_values=True, max_num_fields=10_000)) if text else _NO_QUERY

    def get(self, name: str, default: str = "") -> str:
        values = self._values.get(name)
        return values[0] if values else default

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, value) for name, values in self._values.items() for value in values)

    def has(self, name: str) -> bool:
        return name in self._values

    def flag(self, name: str) -> bool:
        """Go's reading of a boolean in a query: absent, empty, 0 and false are no; what is no boolean is
        yes."""
        values = self._values.get(name)
        if not values:
            return False
        return values[0].lower() not in ("", "0", "f", "false")


_NO_QUERY = Query()


@dataclass(slots=True)
class Notes:
    """What is found out on the way of a request and told beside its answer."""

    warnings: list[str] = field(default_factory=list)
    """For the client, as Warning headers."""
    audit: dict[str, str] = field(default_factory=dict)
    """For the audit log, as annotations."""


@dataclass(slots=True, kw_only=True)
class ApiRequest:
    method: str
    path: str
    query: Query = _NO_QUERY
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names."""
    body: bytes = b""
    user: User = ANONYMOUS
    notes: Notes = field(default_factory=Notes)
    as_of: int | None = None
    """A fault wants the answer of this revision, as if it were the newest."""
    document: ReadYaml | None = None
    """The body, where it is YAML of some size: read beside the loop."""

    @property
    def user_agent(self) -> str:
        return self.headers.get("user-agent", "")

    @property
    def field_manager(self) -> str:
        """Who owns the fields that this request writes."""
        return self.query.get("fieldManager") or self.user_agent.split("/", 1)[0][:128] or "unknown"


@dataclass(slots=True, kw_only=True)
class Reply:
    """A whole answer. The parts of a large one are made while it is sent; `size` is known before."""

    status: int = 200
    parts: Iterable[bytes] = ()
    size: int = -1
    content_type: str = JSON
    headers: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.size < 0:
            self.parts = tuple(self.parts)
            self.size = sum(map(len, self.parts))

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)


@dataclass(slots=True, kw_only=True)
class StreamReply:
    """An answer that goes on until the iterator ends, or the server drains, or the client goes away."""

    status: int = 200
    chunks: AsyncIterator[bytes]
    content_type: str = JSON
    headers: list[tuple[str, str]] = field(default_factory=list)


def json_reply(document: Any, status: int = 200) -> Reply:
    return Reply(status=status, parts=(orjson.dumps(document),))


def text_reply(text: str, status: int = 200) -> Reply:
    return Reply(status=status, parts=(text.encode(),), content_type=TEXT)
