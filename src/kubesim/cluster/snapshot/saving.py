"""Objects of a cluster, read over its API, all as they were at one revision.

Any Kubernetes will do. The first list gives the revision, all others ask for exactly that one; when the server has
compacted it meanwhile, everything is read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubesim.cluster.snapshot.kinds import Kind, chosen, discover, own_of_cluster
from kubewire.client import Client
from kubewire.errors import Gone
from kubewire.requests import Request
from kubewire.resources import Resource

JsonObject = dict[str, Any]

_TRIES = 3


async def collect(client: Client, wanted: Sequence[str], *, page_size: int = 500) -> list[JsonObject]:
    """The objects of the wanted kinds (all, if none is named), in the order in which they are to come back."""
    kinds = chosen(await discover(client), wanted)
    for attempt in range(1, _TRIES + 1):
        try:
            return await _at_one_revision(client, kinds, page_size)
        except Gone:
            if attempt == _TRIES:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _at_one_revision(client: Client, kinds: Sequence[Kind], page_size: int) -> list[JsonObject]:
    revision = ""
    found: list[JsonObject] = []
    for kind in kinds:
        items, revision = await _list(client, kind.resource, revision, page_size)
        found += (_document(item, kind.resource) for item in items)
    return [obj for obj in found if not own_of_cluster(obj)]


async def _list(
    client: Client, resource: Resource, revision: str, page_size: int
) -> tuple[list[JsonObject], str]:
    items: list[JsonObject] = []
    token = ""
    while True:
        query = [("limit", str(page_size))]
        if token:
            query.append(("continue", token))
        elif revision:
            query += [("resourceVersion", revision), ("resourceVersionMatch", "Exact")]
        request = Request(method="GET", path=resource.path(), query=tuple(query))
        page = (await client.raw(request, client.deadlines.page)).json()
        items += page.get("items") or []
        token = page["metadata"].get("continue") or ""
        revision = revision or page["metadata"]["resourceVersion"]
        if not token:
            return items, revision


def _document(item: JsonObject, resource: Resource) -> JsonObject:
    """The object as it is written: kind and version first, without what belongs to the revision only."""
    metadata = {
        key: value for key, value in item["metadata"].items() if key not in ("resourceVersion", "selfLink")
    }
    rest = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata")}
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **rest}
