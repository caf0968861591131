"""Who owns whom: the graph behind the garbage collector, without I/O.

Every object that was seen is a node under its uid, with the owners that it names; the dependents of an owner are
known even when the owner itself was never seen. What to do about a node is decided in garbage.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kubewire.informer import Object
from kubewire.resources import Resource

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One entry of ownerReferences."""

    uid: str
    api_version: str
    kind: str
    name: str
    blocks: bool  # the owner's foreground deletion waits for this dependent


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One object, as far as ownership goes."""

    uid: str
    resource: Resource
    namespace: str | None
    name: str
    owners: tuple[Owner, ...]
    deleting: bool
    finalizers: tuple[str, ...]


def node_of(resource: Resource, obj: Object) -> Node:
    """What the collector needs to know of an object."""
    metadata = obj["metadata"]
    owners = tuple(
        Owner(
            uid=one["uid"],
            api_version=one["apiVersion"],
            kind=one["kind"],
            name=one["name"],
            blocks=bool(one.get("blockOwnerDeletion")),
        )
        for one in metadata.get("ownerReferences", ())
    )
    return Node(
        uid=metadata["uid"],
        resource=resource,
        namespace=metadata.get("namespace"),
        name=metadata["name"],
        owners=owners,
        deleting="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers", ())),
    )


@dataclass
class OwnershipGraph:
    """All nodes, and for each owner its dependents."""

    nodes: dict[str, Node] = field(default_factory=dict)
    _dependents: dict[str, set[str]] = field(default_factory=dict)

    def put(self, node: Node) -> Node | None:
        """Take in the newest state of a node; returns the one before."""
        before = self.nodes.get(node.uid)
        if before and before.owners != node.owners:
            self._unlink(before)
        self.nodes[node.uid] = node
        for owner in node.owners:
            self._dependents.setdefault(owner.uid, set()).add(node.uid)
        return before

    def remove(self, uid: str) -> Node | None:
        """Forget a node; its dependents stay known."""
        node = self.nodes.pop(uid, None)
        if node:
            self._unlink(node)
        return node

    def dependents(self, uid: str) -> list[Node]:
        """The nodes that name this uid as an owner."""
        return [node for one in self._dependents.get(uid, ()) if (node := self.nodes.get(one))]

    def blocking(self, uid: str) -> list[Node]:
        """The dependents for which the foreground deletion of this owner waits."""
        return [
            node
            for node in self.dependents(uid)
            if any(owner.uid == uid and owner.blocks for owner in node.owners)
        ]

    def _unlink(self, node: Node) -> None:
        for owner in node.owners:
            known = self._dependents.get(owner.uid)
            if known:
                known.discard(node.uid)
                if not known:
                    del self._dependents[owner.uid]
