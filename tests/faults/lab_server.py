"""`python lab_server.py HOME`: the API server as it is, with short deadlines for the contexts of the laboratory."""

import sys
from dataclasses import replace
from pathlib import Path

from kubewire.deadlines import Deadlines
from whimbrel.infra.kubernetes.settings import KubernetesSettings
from whimbrel.infra.registry import Infras
from whimbrel.runtime.pid1 import node_command
from whimbrel.server.home import Home
from whimbrel.server.process import run

SHORT = Deadlines(
    probe=2.0, read=2.0, change=2.5, page=2.5, connect=2.0, credential=2.0, stream_idle=5.0, watch=20.0
)
LONGEST_BREAK = 1.0


def adjust(context: str, settings: KubernetesSettings) -> KubernetesSettings:
    """Short for `lab-...`, everybody's for the others."""
    if not context.startswith("lab-"):
        return settings
    guard = replace(settings.guard, longest_break=LONGEST_BREAK)
    return replace(settings, deadlines=SHORT, guard=guard)


if __name__ == "__main__":
    run(Home(root=Path(sys.argv[1])), places=lambda: Infras(node_command(), adjust=adjust))
