"""What all handlers share: the store, the registry, time and chance, who hands out addresses.

The Core is made once with the ApiServer. It holds no request and decides nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from kubesim.apiserver.admission.base import Admission
from kubesim.apiserver.admission.calling import Caller
from kubesim.apiserver.allocation import ServiceAddresses, Taking
from kubesim.apiserver.auth import Authenticator
from kubesim.apiserver.environment import Environment
from kubesim.apiserver.kinds import conversion
from kubesim.apiserver.kinds.base import Context
from kubesim.apiserver.nodes import NodeDirectory
from kubesim.apiserver.objects import Decoded
from kubesim.apiserver.rbac.authorizer import RbacAuthorizer
from kubesim.apiserver.requests import JsonObject
from kubesim.apiserver.turns import Turns
from kubesim.schema.registry import Registry, ResourceType
from kubesim.store import Store


class TokenIssuer(Protocol):
    def issue(
        self, account: JsonObject, seconds: int, audiences: list[str], bound: JsonObject | None, now: datetime
    ) -> str: ...


class Core:
    def __init__(
        self,
        store: Store,
        registry: Registry,
        nodes: NodeDirectory,
        environment: Environment,
        addresses: ServiceAddresses,
        admission: Admission,
        auth: Authenticator,
        tokens: TokenIssuer,
        authorizer: RbacAuthorizer,
    ) -> None:
        self.store = store
        self.registry = registry
        self.nodes = nodes
        self.environment = environment
        self.addresses = addresses
        self.admission = admission
        self.auth = auth
        self.tokens = tokens
        self.authorizer = authorizer
        self.webhooks = Caller(store)
        self.decoded = Decoded()
        self.turns = Turns()

    def context(self, taking: Taking | None = None) -> Context:
        """What strategies may know; a write takes addresses through its Taking."""
        return Context(
            now=self.environment.timestamp(),
            choose=self.environment.choose,
            allocator=taking or self.addresses,
        )

    def storage(self, rt: ResourceType) -> ResourceType:
        return conversion.storage_type(rt, self.registry)

    def to_storage(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        """The object in the version that it is stored in."""
        return conversion.to_storage(rt, obj)

    def lookup(self, group: str, version: str, plural: str, key: str) -> JsonObject | None:
        """Another object by its name in the store (`namespace/name`). Shared: do not change it."""
        stored = self.store.head(f"{group}/{plural}", key)
        if stored is None:
            return None
        rt = self.registry.find(group, version, plural)
        return self.decoded.get(stored, rt) if rt is not None else None
