"""What the workers of one node share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubesim.clock import timestamp
from kubesim.kubelet.admission import Admission
from kubesim.kubelet.devices import Devices
from kubesim.kubelet.events import EventRecorder
from kubesim.kubelet.shims import Zygote
from kubesim.kubelet.venv import Template
from kubewire.client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything that is not one pod's own."""

    client: Client
    root: Path
    zygote: Zygote
    events: EventRecorder
    devices: Devices
    admission: Admission
    template: Callable[[], Template]  # blocks until it is made; called in threads
    host_variables: Mapping[str, str]
    host_path: tuple[str, ...]
    allocatable: Mapping[str, str]
    taken_addresses: Callable[[], set[str]]
    sync_every: float = 60.0  # seconds between looks at what the volumes of a running pod are made from
    clock: Callable[[], float] = timestamp
