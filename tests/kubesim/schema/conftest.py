"""How the tests take an object through a create or an update, without a server."""

from types import SimpleNamespace

import pytest

from kubesim import errors
from kubesim.apiserver.defaulting import default
from kubesim.apiserver.kinds import Context, strategy
from kubesim.apiserver.validation import validate_create, validate_update
from kubesim.schema.decode import decode
from kubesim.schema.meta import carry_over
from kubesim.schema.registry import ResourceType, builtin

REGISTRY = builtin()
NOW = "2020-01-01T00:00:00Z"


class Addresses:
    """Hands out one address and one port after the other, and remembers what came back."""

    def __init__(self) -> None:
        self.next = 1
        self.released: list[object] = []

    def take_ip(self, wanted: str) -> str:
        if wanted == "10.0.0.66":
            raise ValueError("provided IP is already allocated")
        self.next += 1
        return wanted or f"10.0.0.{self.next}"

    def release_ip(self, address: str) -> None:
        self.released.append(address)

    def take_port(self, wanted: int, protocol: str) -> int:
        self.next += 1
        return wanted or 30000 + self.next

    def release_port(self, port: int, protocol: str) -> None:
        self.released.append(port)


def resource(plural: str, group: str = "", version: str = "v1") -> ResourceType:
    found = REGISTRY.find(group, version, plural)
    assert found is not None
    return found


def created(rt: ResourceType, body: dict, ctx: Context | None = None) -> dict:
    """The stored object, or StatusError; what comes out is canonical and has all its defaults."""
    ctx = ctx or Context(now=NOW, allocator=Addresses())
    obj = default(rt, decode(rt, body, "Strict").obj)
    meta = {"name": "x", "uid": "u", "creationTimestamp": NOW, **obj["metadata"]}
    if rt.namespaced:
        meta.setdefault("namespace", "n")
    obj = strategy(rt).prepare_create(rt, {**obj, "metadata": meta}, ctx)
    wrong = validate_create(rt, obj)
    if wrong:
        raise errors.invalid(rt.group_kind, meta["name"], wrong)
    obj = strategy(rt).allocate(rt, None, obj, ctx)
    assert decode(rt, obj, "Strict").obj == obj
    assert default(rt, obj) == obj
    return obj


def updated(
    rt: ResourceType, old: dict, new: dict, subresource: str = "", ctx: Context | None = None
) -> dict:
    ctx = ctx or Context(now=NOW, allocator=Addresses())
    obj = default(rt, decode(rt, new, "Strict").obj)
    obj = {**obj, "metadata": carry_over(old["metadata"], obj["metadata"])}
    obj = strategy(rt).prepare_update(rt, old, obj, subresource, ctx)
    wrong = validate_update(rt, old, obj, subresource)
    if wrong:
        raise errors.invalid(rt.group_kind, obj["metadata"]["name"], wrong)
    return strategy(rt).allocate(rt, old, obj, ctx)


def problems(rt: ResourceType, body: dict) -> list[str]:
    """What a create of this is refused with, one line per cause."""
    try:
        created(rt, body)
    except errors.StatusError as refused:
        causes = (refused.details or {})["causes"]
        return sorted(f"{cause['field']}: {cause['message']}" for cause in causes)
    return []


def change_problems(rt: ResourceType, old: dict, new: dict, subresource: str = "") -> list[str]:
    try:
        updated(rt, old, new, subresource)
    except errors.StatusError as refused:
        causes = (refused.details or {})["causes"]
        return sorted(f"{cause['field']}: {cause['message']}" for cause in causes)
    return []


@pytest.fixture(scope="session")
def life() -> SimpleNamespace:
    """`resource`, `created`, `updated`, `problems` and `change_problems`."""
    return SimpleNamespace(
        resource=resource,
        created=created,
        updated=updated,
        problems=problems,
        change_problems=change_problems,
        allocator=Addresses,
        now=NOW,
    )
