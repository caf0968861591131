"""Where clusters live on this machine: the names of all files, and nothing of what is in them.

$KUBESIM_HOME (default ~/.kubesim)
├── audit.log                    a line per deletion
├── locks/NAME.lock              held by the one command that works on the cluster
└── clusters/NAME/
    ├── cluster.json             what the cluster is and what is wanted of it (record.py)
    ├── pki/                     certificates and keys (pki.py)
    ├── store/                   the durable store's data (kubesim.store)
    ├── node/                    what the process kubelet keeps (kubesim.kubelet)
    ├── volumes/                 a folder per claim (kubesim.controllers.localvolumes)
    ├── daemon.json              which process serves it (daemonfile.py)
    ├── control.sock             where commands speak to the daemon beside its API (controlsocket.py)
    ├── daemon.lock              held by the daemon as long as it lives
    ├── daemon.log               what the daemon has to say
    └── requests.log             the audit log of its API server, if it has one (kubesim.apiserver.audit)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubesim.cluster.errors import InvalidName

DEFAULT_NAME = "kubesim"
LONGEST_NAME = 50
PAUSE = "/kubesim/v1/pause"
"""Where the daemon takes the request that holds its controllers."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def check_name(name: str) -> str:
    """The name, or an error that says what a name looks like; it becomes part of file names and contexts."""
    if len(name) > LONGEST_NAME:
        raise InvalidName(
            f"The cluster name {name[:20]!r}... has {len(name)} characters; at most {LONGEST_NAME} are allowed.",
            remedy="Choose a shorter name.",
        )
    if not _NAME.fullmatch(name):
        raise InvalidName(
            f"The cluster name {name!r} is refused: it has to consist of lower case letters, digits and '-', "
            "and to start and end with a letter or digit.",
            remedy="Choose a name such as 'dev' or 'test-1'.",
        )
    return name


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """The files of one cluster."""

    name: str
    root: Path
    command_lock: Path

    @property
    def record(self) -> Path:
        return self.root / "cluster.json"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def node(self) -> Path:
        return self.root / "node"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def daemon(self) -> Path:
        return self.root / "daemon.json"

    @property
    def daemon_lock(self) -> Path:
        return self.root / "daemon.lock"

    @property
    def log(self) -> Path:
        return self.root / "daemon.log"

    @property
    def control(self) -> Path:
        return self.root / "control.sock"

    @property
    def requests(self) -> Path:
        return self.root / "requests.log"

    @property
    def context(self) -> str:
        """The name of the kubeconfig context, and of its cluster and user."""
        return f"kubesim-{self.name}"


@dataclass(frozen=True, slots=True)
class Home:
    """All clusters of one user."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Home:
        """`$KUBESIM_HOME`, else `~/.kubesim`."""
        configured = environment.get("KUBESIM_HOME")
        return cls(Path(configured).expanduser().absolute() if configured else Path.home() / ".kubesim")

    @property
    def audit(self) -> Path:
        return self.root / "audit.log"

    def cluster(self, name: str) -> ClusterPaths:
        """The paths of the cluster, whether it exists or not."""
        checked = check_name(name)
        return ClusterPaths(
            checked, self.root / "clusters" / checked, self.root / "locks" / f"{checked}.lock"
        )

    def names(self) -> list[str]:
        """The names of what looks like a cluster, readable or not."""
        try:
            entries = sorted(entry.name for entry in (self.root / "clusters").iterdir() if entry.is_dir())
        except FileNotFoundError:
            return []
        return [name for name in entries if _NAME.fullmatch(name) and len(name) <= LONGEST_NAME]
