"""`stop`: keep a cluster's disks and give its machines back. Kubernetes cannot: a pod ends with its disk.

It is refused by name, as SkyPilot does, with what there is instead.
"""

from __future__ import annotations

from whimbrel.model.errors import Unsupported
from whimbrel.store.clusters import ClusterRow


def refuse_stop(cluster: ClusterRow) -> Unsupported:
    """Why this cluster cannot be stopped, and what to do."""
    name = cluster.name
    return Unsupported(
        f"{name} is on Kubernetes ({cluster.infra}), where nothing can be stopped: a pod ends with its disk.",
        remedy=(
            f"whim down {name}   # its logs stay, and `whim launch --from-history {name}` gives it back\n"
            f"whim launch -c {name} --down ...   # removes it when its jobs have ended"
        ),
    )
