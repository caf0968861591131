"""The kubelets: what plays the nodes of a cluster.

`process.py` runs pods as real local process trees. Each container is watched over by a shim (`shim.py`), a process of
its own that is forked from a small zygote (`zygote.py`), so that neither the end of the daemon nor of the zygote
touches what runs. What must happen next is decided by pure functions (`reconcile.py`, `status.py`); everything else
carries it out.

This package and the modules that a shim imports (`proc`, `linux`, `wire`, `spawn`, `crilog`, `loop`, `shim`, `zygote`
and what they name) stay small on purpose: what they import is paid for by every container.
"""
