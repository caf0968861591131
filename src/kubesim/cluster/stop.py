"""`stop cluster`: nothing of the cluster runs any more, and all of its data stays.

The daemon ends first, then the processes of its pods, so that nobody starts them anew. A memory store forgets its
objects with the daemon; whoever stops such a cluster is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kubesim.cluster import control
from kubesim.cluster.errors import ClusterConflict, ClusterNotFound, RuntimeUnavailable
from kubesim.cluster.files import command_lock
from kubesim.cluster.home import Home
from kubesim.cluster.inspect import State, look
from kubesim.cluster.record import Phase, StoreKind, write_record
from kubesim.kubelet.teardown import stop_all


def stop(home: Home, name: str, *, force: bool, say: Callable[[str], None]) -> None:
    """Stop the cluster; one that does not run is left as it is."""
    paths = home.cluster(name)
    with command_lock(paths):
        facts = look(paths, probe=False)
        if facts.state is State.ABSENT:
            raise ClusterNotFound(
                f"There is no cluster {name!r}.", remedy="See what there is: kubesim get clusters"
            )
        if facts.state in (State.CREATING, State.DELETING):
            raise ClusterConflict(
                f"Cluster {name!r} is {facts.state.lower()}; that command was interrupted.",
                remedy=f"Repeat it, or remove the cluster: kubesim delete cluster --name {name}",
            )
        if facts.damage and not force:
            raise RuntimeUnavailable(
                f"Cluster {name!r} is not available: " + "; ".join(facts.damage) + ". Nothing was changed.",
                remedy=f"Stop its processes nevertheless: kubesim stop cluster --name {name} --force",
            )
        if facts.record:
            write_record(paths.record, replace(facts.record, phase=Phase.STOPPED))
        if facts.daemon and not control.stop(facts.daemon, force=force):
            raise RuntimeUnavailable(
                f"The daemon of cluster {name!r} (process {facts.daemon.pid}) does not end.",
                remedy=f"Make it end: kubesim stop cluster --name {name} --force",
            )
        left = stop_all(paths.node)
        if left:
            raise RuntimeUnavailable(
                f"Cluster {name!r} is stopped, but some processes of its pods are not: " + "; ".join(left),
                remedy="Repeat this command.",
            )
        if facts.record and facts.record.store is StoreKind.MEMORY:
            say(f"Cluster {name!r} kept its objects in memory: they are gone.")
