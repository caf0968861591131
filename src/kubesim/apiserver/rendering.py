"""How objects become answers: the stored bytes as they are, or as YAML, as a Table, as metadata only.

The plain form is a copy of memory. Everything else decodes, one object after the other and in turns with everybody
else, and is what people and the garbage collectors of the world ask for, not what the hot paths do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import orjson

from kubesim import clock, errors
from kubesim.apiserver.kinds import conversion
from kubesim.apiserver.negotiation import Wanted
from kubesim.apiserver.objects import decode, encode, head
from kubesim.apiserver.requests import JSON, YAML, ApiRequest, JsonObject, Reply
from kubesim.apiserver.tables import row_maker, to_table
from kubesim.apiserver.turns import Turns
from kubesim.schema.registry import ResourceType
from kubesim.schema.yamltext import dump_yaml
from kubesim.store import Stored

META = "meta.k8s.io"
_ITEMS_PER_PART = 64


def document(obj: Any, wanted: Wanted, status: int = 200, *, pretty: bool = False) -> Reply:
    """Any document in the media type that the client wants."""
    if wanted.media == YAML:
        return Reply(status=status, parts=(dump_yaml(obj),), content_type=YAML)
    option = orjson.OPT_INDENT_2 if pretty else 0
    return Reply(status=status, parts=(orjson.dumps(obj, option=option),), content_type=JSON)


class Renderer:
    """The answers for one resource in one version, as one request wants them."""

    def __init__(
        self,
        rt: ResourceType,
        storage: ResourceType,
        wanted: Wanted,
        request: ApiRequest,
        turns: Turns,
    ) -> None:
        self._turns = turns
        self._rt = rt
        self._storage = storage
        self._wanted = wanted
        self._pretty = request.query.flag("pretty")
        self._include = request.query.get("includeObject") or "Metadata"
        self._head = head(rt.api_version, rt.kind)
        self._same = rt.as_stored and (rt.group, rt.version) == (storage.group, storage.version)
        if self._include not in ("None", "Metadata", "Object") and wanted.form == "Table":
            given = errors.quoted(self._include)
            raise errors.bad_request(
                f"Unable to convert to Table as requested: includeObject: Invalid value: {given}: "
                "must be 'Metadata', 'Object', 'None', or empty"
            )

    @property
    def shareable(self) -> bool:
        """Two watches with the same selectors see the same bytes."""
        return self._wanted.plain and self._same

    def decoded(self, stored: Stored) -> JsonObject:
        """The object in the version of the request."""
        obj = decode(stored.data, self._storage)
        return obj if self._same else conversion.from_storage(self._rt, obj)

    @property
    def wanted(self) -> Wanted:
        return self._wanted

    # One object

    def document(self, obj: JsonObject, status: int = 200) -> Reply:
        """An object of another kind than the resource's own."""
        return document(obj, self._wanted, status, pretty=self._pretty)

    def status(self, status: JsonObject, code: int = 200) -> Reply:
        """A Status, which has no other form."""
        return document(status, Wanted(self._wanted.media), code, pretty=self._pretty)

    def one(self, stored: Stored, status: int = 200) -> Reply:
        if self._wanted.plain and self._same and not self._pretty:
            return Reply(status=status, parts=(self._head, stored.data))
        return self.object(self.decoded(stored), status)

    def object(self, obj: JsonObject, status: int = 200) -> Reply:
        """An object that is not stored, or not as it is shown."""
        return document(self._shown(obj), self._wanted, status, pretty=self._pretty)

    def _shown(self, obj: JsonObject) -> JsonObject:
        form = self._wanted.form
        if form is None:
            return obj
        if form == "Table":
            return self._table([obj], obj["metadata"].get("resourceVersion", ""))
        if form == "PartialObjectMetadata":
            return self._partial(obj)
        raise errors.not_acceptable(
            f"you requested {form}, but the requested object is not a list type (*{_go_type(self._rt)})"
        )

    def _partial(self, obj: JsonObject) -> JsonObject:
        return {
            "kind": "PartialObjectMetadata",
            "apiVersion": f"{META}/{self._wanted.version}",
            "metadata": obj["metadata"],
        }

    def _table(self, objects: Sequence[JsonObject], version: str) -> JsonObject:
        table: JsonObject = to_table(self._rt, objects, clock.now(), self._include)
        table["apiVersion"] = f"{META}/{self._wanted.version}"
        table["metadata"] = {"resourceVersion": version}
        return table

    # Lists

    async def list(self, items: Sequence[Stored], metadata: JsonObject) -> Reply:
        """A list; `metadata` is that of the list itself."""
        form, rt = self._wanted.form, self._rt
        if self._wanted.plain and self._same and not self._pretty:
            return self._plain_list(items, metadata)
        if form == "Table":
            top = {
                **self._table([], ""),
                "metadata": {k: v for k, v in metadata.items() if v or k != "continue"},
            }
            row = row_maker(rt, clock.now(), self._include)
            return await self._list_of("rows", top, items, lambda stored: row(self.decoded(stored)))
        if form == "PartialObjectMetadataList":
            top = {
                "kind": "PartialObjectMetadataList",
                "apiVersion": f"{META}/{self._wanted.version}",
                "metadata": metadata,
                "items": [],
            }
            return await self._list_of(
                "items", top, items, lambda stored: self._partial(self.decoded(stored))
            )
        if form is not None:
            raise errors.not_acceptable(
                f"you requested {form}, but the requested object is a list (*{_go_type(rt)}List)"
            )
        top = {"kind": rt.list_kind_name, "apiVersion": rt.api_version, "metadata": metadata, "items": []}
        return await self._list_of("items", top, items, lambda stored: self._item(self.decoded(stored)))

    async def _list_of(
        self, member: str, top: JsonObject, items: Sequence[Stored], shown: Callable[[Stored], JsonObject]
    ) -> Reply:
        """The document `top` with its last member filled, made in turns."""
        if self._pretty:
            filled = {**top, member: await self._turns.each(items, shown)}
            return document(filled, self._wanted, pretty=True)
        if self._wanted.media == YAML and items:
            made = await self._turns.each(items, lambda stored: dump_yaml([shown(stored)]))
            before = {key: value for key, value in top.items() if key < member}
            after = {key: value for key, value in top.items() if key > member}
            parts = (dump_yaml(before), f"{member}:\n".encode(), *made, dump_yaml(after) if after else b"")
            return Reply(parts=parts, content_type=YAML)
        if self._wanted.media == YAML:
            return document(top, self._wanted)
        made = await self._turns.each(items, lambda stored: orjson.dumps(shown(stored)))
        start = orjson.dumps(top)[:-2]
        size = len(start) + sum(map(len, made)) + max(len(made) - 1, 0) + 2
        return Reply(parts=_list_parts(start, b",", made), size=size)

    def _item(self, obj: JsonObject) -> JsonObject:
        if not self._rt.custom:
            del obj["kind"], obj["apiVersion"]
        return obj

    def _plain_list(self, items: Sequence[Stored], metadata: JsonObject) -> Reply:
        rt = self._rt
        start = orjson.dumps({"kind": rt.list_kind_name, "apiVersion": rt.api_version, "metadata": metadata})[
            :-1
        ]
        before = self._head if rt.custom else b"{"
        separator = b"," + before
        start += b',"items":[' + (before if items else b"")
        size = len(start) + sum(stored.size for stored in items) + len(separator) * max(len(items) - 1, 0) + 2
        return Reply(parts=_list_parts(start, separator, (stored.data for stored in items)), size=size)

    # Watches

    def event_object(self) -> Callable[[Stored], bytes]:
        """The function that renders the object of a watch event."""
        if self._wanted.plain and self._same:
            prefix = self._head
            return lambda stored: prefix + stored.data
        first = True

        def render(stored: Stored) -> bytes:
            nonlocal first
            shown = self._shown(self.decoded(stored))
            if self._wanted.form == "Table":
                # Only the first event of a stream describes the columns.
                shown = shown if first else {**shown, "columnDefinitions": None}
                first = False
            return orjson.dumps(shown)

        return render

    def at_version(self, stored: Stored, revision: int) -> Stored:
        """The object as it was, under another resourceVersion."""
        obj = decode(stored.data, self._storage)
        return Stored(stored.resource, stored.name, revision, stored.created, encode(obj, revision))

    def bookmark(self, revision: int, initial_events_end: bool) -> JsonObject:
        metadata: JsonObject = {"resourceVersion": str(revision)}
        if initial_events_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj = {"kind": self._rt.kind, "apiVersion": self._rt.api_version, "metadata": metadata}
        if self._wanted.form == "Table":
            table = self._table([obj], str(revision))
            return {**table, "rows": [], "columnDefinitions": None}
        return self._shown(obj)


def _list_parts(start: bytes, separator: bytes, items: Iterable[bytes]) -> Iterator[bytes]:
    yield start
    remaining = iter(items)
    first = True
    while batch := list(islice(remaining, _ITEMS_PER_PART)):
        joined = separator.join(batch)
        yield joined if first else separator + joined
        first = False
    yield b"]}"


def _go_type(rt: ResourceType) -> str:
    """`core.ConfigMap`: Go's name of the internal type, which some messages show."""
    return f"{rt.group.partition('.')[0] or 'core'}.{rt.kind}"
