"""Lists in pages, without I/O: which page to ask for next, and what to do when the pages expire.

A collection is read in pages so that no single answer is large enough to stall the event loop while it is decoded.
When objects are big, the pages get smaller. When the continue token has expired (410), the list starts over, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kubewire import requests
from kubewire.errors import Gone, Unreachable
from kubewire.requests import JsonObject, Request, Response
from kubewire.resources import Resource

PAGE_BYTES = 4_000_000
"""The size that a page should not exceed: about 10 ms of decoding."""

_SMALLEST_PAGE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectList:
    """A complete collection and the version at which it was read."""

    items: list[JsonObject]
    resource_version: str


class Pager:
    """The state of one list: `next_request`, send, `feed`, until `next_request` says None."""

    def __init__(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = 500,
        resource_version: str | None = None,
        shrink: Callable[[JsonObject], JsonObject] | None = None,
    ) -> None:
        if page_size < 1:
            raise ValueError("a page has at least one object")
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._page_size = page_size
        self._limit = page_size
        self._wanted_version = resource_version
        self._shrink = shrink
        self._items: list[JsonObject] = []
        self._version = ""
        self._token: str | None = None
        self._done = False
        self._restarted = False

    def next_request(self) -> Request | None:
        """The next page to ask for, or None when all are there."""
        if self._done:
            return None
        return requests.list_(
            self._resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            limit=self._limit,
            continue_=self._token,
            resource_version=self._wanted_version,
        )

    def feed(self, response: Response) -> None:
        """Take in one page. Raises the error that the page is, except the first expiry of a continue token."""
        try:
            page = requests.check_response(response).json()
        except Gone:
            if self._token is None or self._restarted:
                raise
            self._restarted = True
            self._items.clear()
            self._token = None
            return
        items, metadata = page.get("items") or [], page.get("metadata") or {}
        if not (
            isinstance(metadata, dict) and isinstance(items, list) and all(isinstance(i, dict) for i in items)
        ):
            raise Unreachable(response.endpoint, "protocol", detail="the answer is not a list of objects")
        for item in items:
            # a list leaves out what all its items have in common; an object that is sent back needs it
            item.setdefault("apiVersion", self._resource.api_version)
            item.setdefault("kind", self._resource.kind)
        self._items += items if self._shrink is None else map(self._shrink, items)
        self._version = str(metadata.get("resourceVersion") or "")
        self._token = metadata.get("continue") or None
        self._done = self._token is None
        self._limit = next_limit(self._page_size, len(items), len(response.body))

    def result(self) -> ObjectList:
        """The whole list."""
        if not self._done:
            raise RuntimeError("the list is not complete")
        return ObjectList(items=self._items, resource_version=self._version)


def next_limit(page_size: int, count: int, size: int) -> int:
    """How many objects to ask for next, when the last page had `count` objects in `size` bytes."""
    if count == 0 or size <= PAGE_BYTES:
        return page_size
    return min(page_size, max(_SMALLEST_PAGE, PAGE_BYTES * count // size))
