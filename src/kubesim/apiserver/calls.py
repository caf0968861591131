"""One request to one resource, with everything that the handlers of all verbs ask of it.

A Call is made once per request: the route is resolved to a resource type, the Accept header to a form, the
table of the store is at hand. Handlers read it and hold nothing of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubesim import errors
from kubesim.apiserver.rendering import Renderer
from kubesim.apiserver.requests import ApiRequest
from kubesim.apiserver.routing import Route
from kubesim.apiserver.turns import Turns
from kubesim.errors import StatusError
from kubesim.schema.registry import ResourceType
from kubesim.store import Store, Stored, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    request: ApiRequest
    route: Route
    rt: ResourceType
    """The resource in the version of the request."""
    storage: ResourceType
    """The same resource in the version that it is stored in."""
    store: Store
    renderer: Renderer
    turns: Turns

    @property
    def resource(self) -> str:
        return table_of(self.storage)

    @property
    def table(self) -> Table:
        return self.store.table(self.resource)

    @property
    def newest(self) -> int:
        """The revision of a read that names none: the store's, unless a fault makes this read a stale one."""
        wanted = self.request.as_of
        if wanted is None:
            return self.store.revision
        return min(max(wanted, self.table.forgotten, self.store.compacted), self.store.revision)

    @property
    def namespace(self) -> str:
        return self.route.namespace or ""

    @property
    def name(self) -> str:
        return self.route.name or ""

    @property
    def key(self) -> str:
        """The name of the object in its table."""
        return f"{self.namespace}/{self.name}"

    def not_found(self) -> StatusError:
        return errors.not_found(self.rt.group_resource, self.name)

    def head(self) -> Stored:
        """The newest state, for a write. Raises StatusError 404."""
        stored = self.store.head(self.resource, self.key)
        if stored is None:
            raise self.not_found()
        return stored


def table_of(storage: ResourceType) -> str:
    return f"{storage.group}/{storage.plural}"
