"""Which loopback address a pod gets: its own one in 127.64.0.0/10, so that two pods may listen on one port.

The whole of 127.0.0.0/8 belongs to the loopback interface of Linux; nothing has to be set up. The address is chosen
from the pod's uid, so that it is hardly ever that of a pod of another cluster on this machine; within a node it is
unique because the records of the node's pods are asked. Pure.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Container

HOST = "127.0.0.1"
_NETWORK = ipaddress.ip_network("127.64.0.0/10")


class NoAddressLeft(Exception):
    """Every loopback address for pods is in use."""


def allocate(key: str, taken: Container[str]) -> str:
    """An address for the pod with this key that is not taken."""
    size = _NETWORK.num_addresses
    start = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())
    for step in range(size):
        offset = (start + step) % size
        if offset % 256 in (0, 255):  # look like a network or broadcast address to some programs
            continue
        address = str(_NETWORK[offset])
        if address not in taken:
            return address
    raise NoAddressLeft
