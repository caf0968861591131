"""The chain that a write passes between defaulting and validation, and what it passes after.

A plugin may look other objects up, may change the object (by returning a new one), and may refuse by raising a
StatusError. It knows one rule and nothing of the other plugins; the order is `default_admission`'s. Hooks are what the
cluster's own objects ask for: policies and webhooks. When a hook has changed something all plugins get a second look,
and the hooks that want one. Validators see the object as it will be stored; so do guards, which may also hold something
while it is. Nothing of the store is held meanwhile: what a hook takes its time for may have changed, and is then tried
again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol

from kubesim.apiserver.admission.calling import Caller
from kubesim.apiserver.auth import Authorizer
from kubesim.apiserver.environment import Environment
from kubesim.apiserver.requests import JsonObject, Notes, User
from kubesim.schema.registry import Registry, ResourceType
from kubesim.store import Store

Operation = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]
GroupVersionKind = tuple[str, str, str]


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
    of: GroupVersionKind | None = None
    """What kind the object is, where it is not the resource's: a Scale, a Binding, the options of an exec."""
    options: JsonObject | None = None
    """CreateOptions, UpdateOptions, ... as the client gave them."""
    name_generated: bool = False
    """The client gave no name: hooks that may still change the object do not see the one that it will have."""
    notes: Notes = field(default_factory=Notes)

    def creates(self, group_resource: str) -> bool:
        return (
            self.operation == "CREATE" and not self.subresource and self.rt.group_resource == group_resource
        )

    @property
    def kind(self) -> GroupVersionKind:
        """Of the object."""
        if self.of is not None:
            return self.of
        group, version = self.rt.kind_group_version or (self.rt.group, self.rt.version)
        return group, version, self.rt.kind


class Cluster(Protocol):
    """What a plugin may ask."""

    store: Store
    environment: Environment
    registry: Registry
    webhooks: Caller

    @property
    def authorizer(self) -> Authorizer: ...

    def lookup(self, group: str, version: str, plural: str, key: str) -> JsonObject | None:
        """Another object by its name in the store (`namespace/name`); shared: do not change it."""
        ...


class Plugin(Protocol):
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject: ...


class Hook(Protocol):
    """Something outside of the server that may change the object; a DELETE and some others have none."""

    async def mutate(
        self, cluster: Cluster, attempt: Attempt, obj: JsonObject | None, again: Again
    ) -> JsonObject | None: ...


class Validator(Protocol):
    async def validate(self, cluster: Cluster, attempt: Attempt, obj: JsonObject | None) -> None:
        """Raises StatusError."""
        ...


class Guard(Protocol):
    """A last check, of the object as it will be stored."""

    def hold(
        self, cluster: Cluster, attempt: Attempt, obj: JsonObject
    ) -> AbstractAsyncContextManager[None] | None:
        """Raises StatusError; or what is to be held around the writing, which ends with an error if it failed."""
        ...


@dataclass(slots=True)
class Again:
    """Which hooks have to look at an object a second time. One for each way through the chain."""

    second: bool = False
    """This is the second way through."""
    wanted: bool = False
    """Something has changed that the plugins before have not seen."""
    passed: set[str] = field(default_factory=set)
    """Who would like to look again, and has looked before the last change."""
    due: set[str] = field(default_factory=set)
    """Who has to look again."""
    last: JsonObject | None = None
    """The object after the last hook of the first way."""

    def changed(self) -> None:
        """A hook has changed the object: whoever looked before has to look again."""
        self.due |= self.passed
        self.passed.clear()
        self.wanted = True

    def skips(self, hook: str) -> bool:
        return self.second and hook not in self.due


class Admission:
    def __init__(
        self,
        plugins: Sequence[Plugin],
        guards: Sequence[Guard] = (),
        *,
        hooks: Sequence[Hook] = (),
        late: Sequence[Plugin] = (),
        validators: Sequence[Validator] = (),
    ) -> None:
        self._plugins = tuple(plugins)
        self._guards = tuple(guards)
        self._hooks = tuple(hooks)
        self._late = tuple(late)
        self._validators = tuple(validators)

    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        """The object after all plugins. Raises StatusError."""
        again = Again()
        obj = await self._round(cluster, attempt, obj, again)
        if again.wanted:
            again.second = True
            obj = await self._round(cluster, attempt, obj, again)
        for plugin in self._late:
            obj = await plugin.admit(cluster, attempt, obj)
        return obj

    async def _round(self, cluster: Cluster, attempt: Attempt, obj: JsonObject, again: Again) -> JsonObject:
        for plugin in self._plugins:
            obj = await plugin.admit(cluster, attempt, obj)
        if again.second and obj != again.last:
            again.changed()
        for hook in self._hooks:
            obj = await hook.mutate(cluster, attempt, obj, again) or obj
        again.last = obj
        return obj

    async def validate(self, cluster: Cluster, attempt: Attempt, obj: JsonObject | None) -> None:
        """The object as it will be stored, or the end of the one that is there. Raises StatusError."""
        for validator in self._validators:
            await validator.validate(cluster, attempt, obj)

    async def ask(self, cluster: Cluster, attempt: Attempt, obj: JsonObject | None) -> JsonObject | None:
        """Pass only hooks and validators: for what is not stored, such as a deletion, a binding or an exec.
        Raises StatusError."""
        again = Again()
        for hook in self._hooks:
            obj = await hook.mutate(cluster, attempt, obj, again)
        if again.wanted:
            again.second = True
            for hook in self._hooks:
                obj = await hook.mutate(cluster, attempt, obj, again)
        await self.validate(cluster, attempt, obj)
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
