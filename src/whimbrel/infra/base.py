"""What an infrastructure is to the rest of whimbrel: the Infra and Node protocols, and the data they speak.

An Infra is one place that can run clusters: a Kubernetes context today, an SSH pool or a cloud region later.
It answers with data or raises a subclass of `whimbrel.model.errors.InfraError`; every call ends within the
deadline that its guard sets (law 1). It keeps no state: what exists is in the database and in the infrastructure.
What runs on a node is not known here; that is `whimbrel.runtime`, which needs only `Node.exec`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from whimbrel.infra.provision import Endpoint, Provision, VolumeSeen, VolumeSpec
from whimbrel.model.errors import IdentityChanged

NO_PROVISION = Provision()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShape:
    """What one node of a cluster is given; amounts are complete (defaults are filled in)."""

    cpus: float
    memory_gib: float | None = None  # None: no request
    accelerator: str | None = None
    accelerator_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """What `ensure` makes so. Its names are fixed before the first call (law 4)."""

    name: str  # the user's name for the cluster
    uid: str  # identity of this incarnation; goes into labels
    num_nodes: int
    shape: NodeShape
    user: str
    namespace: str = ""  # where it was made, as recorded; empty: where the infra makes new ones
    provision: Provision = field(default_factory=Provision)
    identity: str = (
        ""  # of the infra that it was made in: nothing is touched in another one; empty: a new one
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One external thing that is about to exist: written to the ledger before it is created."""

    token: str  # unique: "<infra>/<kind>/<namespace>/<name>/<cluster uid>"
    kind: str  # "Pod", "Service", ...
    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A place that could run the cluster, or the reason why it cannot."""

    infra: str  # "k8s/my-context"
    feasible: bool
    reason: str = ""  # why not, in the user's words, with what there is
    note: str = ""  # what has to happen first, where it is feasible: machines have to come
    shape: NodeShape | None = None
    hourly_price: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """One node of a cluster as last seen."""

    rank: int
    name: str  # pod name
    phase: str  # "absent", "pending", "running", "ended", "deleting"
    ip: str = ""
    host: str = ""  # the machine under it: Kubernetes node name
    message: str = ""  # why it is not running, in the user's words


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the infrastructure said about one cluster, and when."""

    nodes: Sequence[NodeState]
    at: float  # UNIX seconds
    others: Sequence[Thing] = ()  # things of this cluster that are there beside its nodes
    endpoints: Sequence[Endpoint] = ()  # where its ports can be reached
    refused: Mapping[str, str] = field(default_factory=dict)  # name of a thing -> why it could not be deleted

    @property
    def running(self) -> bool:
        """Whether every node runs."""
        return bool(self.nodes) and all(node.phase == "running" for node in self.nodes)

    @property
    def gone(self) -> bool:
        """Whether nothing of the cluster was seen."""
        return not self.others and all(node.phase == "absent" for node in self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Whether an infra can be used, as `whim check` shows it."""

    infra: str
    usable: bool
    reason: str = ""
    remedy: str = ""
    identity: str = ""  # UID of the kube-system namespace
    version: str = ""
    nodes: int | None = None
    cpus: float | None = None
    memory_gib: float | None = None
    accelerators: Mapping[str, int] = field(default_factory=dict)
    breaker: str = "closed"  # of its guard: closed, open, half-open
    retry_in: float | None = None  # seconds until an open one lets a call through
    seconds: float = 0.0  # how long it took to know
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerators:
    """The accelerators of one machine (Kubernetes node)."""

    node: str
    kind: str
    capacity: int
    used: int | None  # asked for by what runs there; None: that may not be looked at
    free: int | None  # what could be had now
    memory_gib: float | None = None  # of one
    trouble: str = ""  # why none of it is to be had: cordoned, not ready, no device plugin


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The accelerators of an infra as they were `age` seconds ago; `error` says why it could not be asked now."""

    infra: str
    machines: Sequence[Accelerators] = ()
    age: float = 0.0
    error: str = ""
    remedy: str = ""


def moved(infra: str, cluster: str) -> IdentityChanged:
    """The context of a cluster leads elsewhere now."""
    return IdentityChanged(
        f"{infra} now leads to another Kubernetes cluster than the one that {cluster} was made in; "
        "nothing was touched there.",
        remedy=(
            f"point the context back to it, or `whim down --purge {cluster}` to forget it "
            "(what it left there stays there)"
        ),
    )


Progress = Callable[[str], None]
"""Called with one sentence whenever what is waited for changes."""


class ExecStream(Protocol):
    """A running command on a node. Stdin and output flow at the same time; the end is more than EOF."""

    async def write(self, data: bytes) -> None:
        """Send to stdin; waits while the other side does not read, at most the idle deadline."""

    async def close_stdin(self) -> None:
        """End of stdin."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """Pieces of output as (1 for stdout or 2 for stderr, bytes), until the command has ended."""

    async def exit_code(self) -> int:
        """The exit code, once `output` is exhausted. Raises `NodeLost` when the stream broke before."""


class Node(Protocol):
    """One node of a cluster. `exec` is the whole road to it."""

    @property
    def name(self) -> str:
        """The node's name for people and logs: the pod name."""

    def exec(
        self, argv: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> AbstractAsyncContextManager[ExecStream]:
        """Start a command. Leaving the context ends the stream (not necessarily the command)."""


class Infra(Protocol):
    """One place that can run clusters, behind its own guard."""

    @property
    def name(self) -> str:
        """ "k8s/CONTEXT"."""

    def trouble(self) -> str:
        """Why it is known not to answer at present; empty when nothing is known. Makes no call."""

    async def check(self) -> Check:
        """Whether it can be used; never raises an InfraError: what is wrong is in the answer."""

    async def offer(self, num_nodes: int, shape: NodeShape, provision: Provision = NO_PROVISION) -> Offer:
        """Whether it could run such a cluster (capacity, not present load), from a cache of known age."""

    async def accelerators(self, patience: float) -> Inventory:
        """What accelerators there are, from a cache of known age; never raises an InfraError. Waits at most `patience`
        seconds for a newer answer, then takes an older one or says why there is none."""

    async def identity(self, like: str = "") -> str:
        """What tells this infrastructure from another under the same name (law: bind records to it). `like` is what was
        recorded: the answer is of the same sort, although more or less may be read now, or it raises why it cannot
        be. What is given a `ClusterSpec` of another identity raises `IdentityChanged`, and touches nothing."""

    def things(self, spec: ClusterSpec) -> Sequence[Thing]:
        """Everything that `ensure` would create. No call; something was asked of the infra before."""

    async def ensure(self, spec: ClusterSpec, progress: Progress, timeout: float) -> Observation:
        """Create what is missing and wait until every node runs. Idempotent. Raises `OutOfCapacity` with the
        reason when the nodes cannot start within `timeout` seconds."""

    async def observe(self, spec: ClusterSpec) -> Observation:
        """What is there now."""

    async def remove(self, spec: ClusterSpec, progress: Progress, timeout: float) -> Observation:
        """Delete everything of the cluster (also what only its labels tell) and wait until it is seen gone.
        What is still there after `timeout` seconds is in the answer."""

    async def named(self, things: Sequence[Thing]) -> Sequence[Thing]:
        """Which of these names are taken, whatever carries them; with the labels that it has now."""

    def home(self) -> str:
        """The namespace in which things are made when nobody says; something was asked of the infra before."""

    def volume_thing(self, spec: VolumeSpec) -> Thing:
        """What `make_volume` would create. No call."""

    async def make_volume(self, spec: VolumeSpec) -> VolumeSeen:
        """Create what is missing of it. Idempotent. Raises `Conflict` when its name is taken, `NotFound` when an
        existing one is not there."""

    async def observe_volume(self, spec: VolumeSpec) -> VolumeSeen:
        """What there is of it now, and who uses it."""

    async def remove_volume(self, spec: VolumeSpec, timeout: float) -> VolumeSeen:
        """Delete it and wait until it is seen gone; what is still there after `timeout` seconds is the answer."""

    def node(self, spec: ClusterSpec, rank: int) -> Node:
        """The road to one node. No call is made here."""
