"""How the nodes of a cluster are made, beside their shape: the user's settings for one context and one task, complete.

It is decided once, when a place is chosen, and kept with the cluster: what is set later is for later clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A volume at a path of every node: a claim that is there, or (without one) a new one for each node."""

    path: str
    volume: str = ""  # the user's name for it
    claim: str = ""
    sub_path: str = ""
    read_only: bool = False
    size_gib: float = 0.0
    storage_class: str = ""
    access_mode: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """Empty values leave it to the infra."""

    namespace: str = ""
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    pod_config: Mapping[str, Any] = field(default_factory=dict)
    service_account: str = ""
    queue: str = ""
    priority_class: str = ""
    spot: bool = False
    disk_gib: float = 0.0
    ports: tuple[int, ...] = ()
    port_mode: str = ""
    mounts: tuple[Mount, ...] = ()
    patience: float | None = (
        None  # seconds until every node has a machine; None: as long as the launch may take
    )
    autoscaler: str = ""  # what adds machines where no present one fits

    def to_json(self) -> dict[str, Any]:
        """As a row holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Provision:
        """What `to_json` wrote; a row from before there was one is an empty one."""
        known = dict(raw)
        known["ports"] = tuple(known.get("ports") or ())
        known["mounts"] = tuple(Mount(**mount) for mount in known.get("mounts") or ())
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a port of a cluster can be reached."""

    port: int
    url: str = ""  # "1.2.3.4:8080", "http://host/path"; empty as long as there is none
    note: str = ""  # why there is none yet, or what has to run for it


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSpec:
    """A volume that outlives clusters. Its names are fixed before the first call (law 4)."""

    uid: str  # goes into labels
    name: str  # the user's
    claim: str
    namespace: str
    identity: str  # of the infra that it is made in
    user: str
    existing: bool = False  # somebody else's claim: never made, never deleted
    size_gib: float = 0.0
    access_mode: str = ""
    storage_class: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeSeen:
    """A volume as last seen."""

    phase: str  # "Bound", "Pending", ...; "Terminating" while it is deleted; "" when it is not there
    size: str = ""
    used_by: tuple[str, ...] = ()  # pods
    message: str = ""  # why it is not usable, in the user's words
