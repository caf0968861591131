"""Which collections the API server serves now, as controllers that act on every kind need to know.

Two requests for the aggregated documents; each group counts in its preferred version only, and what two groups serve
from one storage (Events) counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kubewire.client import Client
from kubewire.requests import Request
from kubewire.resources import Resource

_ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_SAME_STORAGE = frozenset({("events.k8s.io", "events")})


@dataclass(frozen=True, slots=True)
class Served:
    """A collection and what can be done with it."""

    resource: Resource
    verbs: frozenset[str]


async def served(client: Client) -> list[Served]:
    """All collections, in the order in which the server names them."""
    found: list[Served] = []
    for path in ("/api", "/apis"):
        request = Request(method="GET", path=path, headers={"accept": _ACCEPT})
        response = await client.raw(request, client.deadlines.read)
        found += parse(response.json())
    return found


def parse(document: dict[str, Any]) -> Iterator[Served]:
    """The collections of one APIGroupDiscoveryList."""
    for group in document["items"]:
        name = group["metadata"].get("name", "")
        seen: set[str] = set()
        for version in group["versions"]:
            for one in version.get("resources", []):
                plural = one["resource"]
                if plural in seen or (name, plural) in _SAME_STORAGE:
                    continue
                seen.add(plural)
                kind = one["responseKind"]["kind"]
                resource = Resource(name, version["version"], plural, kind, one["scope"] == "Namespaced")
                yield Served(resource, frozenset(one["verbs"]))
