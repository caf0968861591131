"""For authors of Kubernetes tools: clusters inside a test process, with a clock that can be moved.

The fixtures of `kubesim.pytest_plugin` are made of these; they can be used without pytest as well:

    with EmbeddedCluster(pki) as cluster:       # 20 ms, in a thread of this process
        cluster.kubeconfig                      # for kubectl, helm and every client
        cluster.client.list(PODS, "default")    # kubewire, without async
        cluster.clock.advance(3600)             # the controllers live through an hour

Nothing here simulates an API: it is the API server, the scheduler and the controllers that `kubesim create cluster`
starts, behind the same TLS port.
"""

from kubesim.testing.blocking import BlockingClient, NotInTime
from kubesim.testing.cluster import Cluster
from kubesim.testing.embedded import ClusterClock, EmbeddedCluster, Options
from kubesim.testing.foreign import ForeignCluster
from kubesim.testing.movable import MovableClock

__all__ = [
    "BlockingClient",
    "Cluster",
    "ClusterClock",
    "EmbeddedCluster",
    "ForeignCluster",
    "MovableClock",
    "NotInTime",
    "Options",
]
