"""The chain that a write passes between defaulting and validation.

A plugin may look other objects up, may change the object (by returning a new one), and may refuse by raising a
StatusError. It knows one rule and nothing of the other plugins; the order is `default_admission`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
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


class Admission:
    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._plugins = tuple(plugins)

    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        """The object after all plugins. Raises StatusError."""
        for plugin in self._plugins:
            obj = await plugin.admit(cluster, attempt, obj)
        return obj
