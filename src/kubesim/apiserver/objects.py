"""How an object lies in the store: everything but its kind and apiVersion, encoded once.

`{"kind":"Pod","apiVersion":"v1",` + data is the object as a client gets it alone; `{` + data is the same
object as an item of a built-in list, whose items name no kind; either is a memory copy and no more. That also
makes the stored form independent of the version it is served in, where versions differ in nothing but their
name; where they do differ, `kinds.conversion` translates. Decoding happens on demand, through a cache of
objects that readers must not change.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache

import orjson

from kubesim.apiserver.requests import JsonObject
from kubesim.schema.registry import ResourceType
from kubesim.store import Stored

_METADATA = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
"""The order in which the real server writes them."""
_TOP = frozenset({"kind", "apiVersion", "metadata"})


@lru_cache(maxsize=4096)
def head(api_version: str, kind: str) -> bytes:
    """What stands before the stored bytes when the object stands alone."""
    return orjson.dumps({"kind": kind, "apiVersion": api_version})[:-1] + b","


def encode(obj: JsonObject, revision: int) -> bytes:
    """The bytes to store, with this revision as the object's resourceVersion."""
    meta = {**obj["metadata"], "resourceVersion": str(revision)}
    ordered = {key: meta[key] for key in _METADATA if key in meta}
    if len(ordered) < len(meta):
        ordered.update(meta)
    made = {"metadata": ordered}
    made.update((key, value) for key, value in obj.items() if key not in _TOP)
    try:
        return orjson.dumps(made)[1:]
    except orjson.JSONEncodeError as wrong:
        if "ecursion" in str(wrong):  # patches may nest deeper than a body can
            raise RecursionError(str(wrong)) from None
        raise


def decode(data: bytes, rt: ResourceType) -> JsonObject:
    """A new object that the caller may change."""
    obj: JsonObject = orjson.loads(head(rt.api_version, rt.kind) + data)
    return obj


class Decoded:
    """Recently used objects, decoded. They are shared: nobody may change them."""

    def __init__(self, limit: int = 16 * 1024 * 1024) -> None:
        self._limit = limit
        self._size = 0
        self._objects: OrderedDict[Stored, JsonObject] = OrderedDict()

    def get(self, stored: Stored, rt: ResourceType) -> JsonObject:
        obj = self._objects.get(stored)
        if obj is not None:
            self._objects.move_to_end(stored)
            return obj
        obj = decode(stored.data, rt)
        self._objects[stored] = obj
        self._size += stored.size
        while self._size > self._limit:
            old, _ = self._objects.popitem(last=False)
            self._size -= old.size
        return obj
