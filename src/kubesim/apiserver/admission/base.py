"""The chain that a write passes between defaulting and validation, and the guards that it passes after.

A plugin may look other objects up, may change the object (by returning a new one), and may refuse by raising a
StatusError. It knows one rule and nothing of the other plugins; the order is `default_admission`'s. Guards see
the object as it will be stored, refuse, and may hold something while it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

from kubesim.apiserver.environment import Environment
from kubesim.apiserver.requests import JsonObject, User
from kubesim.schema.registry import ResourceType
from kubesim.store import Store

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is being tried."""

    operation: Operation
    rt: ResourceType
    subresource: str
    namespace: str
    name: str
    user: User
    old: JsonObject | None = None
    dry_run: bool = False

    def creates(self, group_resource: str) -> bool:
        return (
            self.operation == "CREATE" and not self.subresource and self.rt.group_resource == group_resource
        )


class Cluster(Protocol):
    """What a plugin may ask."""

    store: Store
    environment: Environment

    def lookup(self, group: str, version: str, plural: str, key: str) -> JsonObject | None:
        """Another object by its name in the store (`namespace/name`); shared: do not change it."""
        ...


class Plugin(Protocol):
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject: ...


class Guard(Protocol):
    """A last check, of the object as it will be stored."""

    def hold(
        self, cluster: Cluster, attempt: Attempt, obj: JsonObject
    ) -> AbstractAsyncContextManager[None] | None:
        """Raises StatusError; or what is to be held around the writing, which ends with an error if it failed."""
        ...


class Admission:
    def __init__(self, plugins: Sequence[Plugin], guards: Sequence[Guard] = ()) -> None:
        self._plugins = tuple(plugins)
        self._guards = tuple(guards)

    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        """The object after all plugins. Raises StatusError."""
        for plugin in self._plugins:
            obj = await plugin.admit(cluster, attempt, obj)
        return obj

    def holding(
        self, cluster: Cluster, attempt: Attempt, obj: JsonObject
    ) -> AbstractAsyncContextManager[None]:
        """Pass the guards, after validation, and hold what they hold while the object is stored. Raises
        StatusError."""
        held: AbstractAsyncContextManager[None] = _NOTHING
        for guard in self._guards:
            found = guard.hold(cluster, attempt, obj)
            if found is not None:
                held = found if held is _NOTHING else _both(held, found)
        return held


_NOTHING: AbstractAsyncContextManager[None] = nullcontext()


@asynccontextmanager
async def _both(
    outer: AbstractAsyncContextManager[None], inner: AbstractAsyncContextManager[None]
) -> AsyncIterator[None]:
    async with outer, inner:
        yield
