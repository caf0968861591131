"""Cluster IPs and node ports: who has which, and which are free.

Kept in memory and rebuilt from the Services when the server starts, so that there is nothing that could
disagree with them. Writes of Services go through one event loop: an address that is taken here cannot be
taken twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from ipaddress import IPv4Address, IPv4Network
from types import TracebackType
from typing import TypeVar

from kubesim.apiserver.environment import Environment
from kubesim.apiserver.kinds.base import Allocator
from kubesim.apiserver.requests import JsonObject

T = TypeVar("T")
DEFAULT_NETWORK = "10.96.0.0/16"
PORTS = range(30000, 32768)


class ServiceAddresses:
    """Satisfies the Allocator protocol of the kinds."""

    def __init__(self, environment: Environment, network: str = DEFAULT_NETWORK) -> None:
        self._environment = environment
        self._network = IPv4Network(network)
        self._taken: set[IPv4Address] = {self._network.network_address, self._network.broadcast_address}
        self._ports: set[tuple[int, str]] = set()

    @property
    def first(self) -> str:
        """The address of the API server's own Service."""
        return str(self._network.network_address + 1)

    def adopt(self, service: JsonObject) -> None:
        """Note what an existing Service has."""
        spec = service.get("spec", {})
        for address in spec.get("clusterIPs") or ():
            if address != "None" and ":" not in address:
                self._taken.add(IPv4Address(address))
        for port in spec.get("ports") or ():
            if port.get("nodePort"):
                self._ports.add((port["nodePort"], port.get("protocol", "TCP")))
        if spec.get("healthCheckNodePort"):
            self._ports.add((spec["healthCheckNodePort"], "TCP"))

    def take_ip(self, wanted: str) -> str:
        if not wanted:
            return self._free_ip()
        address = IPv4Address(wanted)
        if address not in self._network:
            raise ValueError(
                f"the provided IP ({wanted}) is not in the valid range. "
                f"The range of valid IPs is {self._network}"
            )
        if address in self._taken:
            raise ValueError("provided IP is already allocated")
        self._taken.add(address)
        return wanted

    def _free_ip(self) -> str:
        size = self._network.num_addresses
        start = self._environment.number(2, size - 2)
        for offset in range(size):
            address = self._network.network_address + (start + offset) % size
            if address not in self._taken and address != IPv4Address(self.first):
                self._taken.add(address)
                return str(address)
        raise ValueError("range is full")

    def release_ip(self, address: str) -> None:
        self._taken.discard(IPv4Address(address))

    def take_port(self, wanted: int, protocol: str) -> int:
        if wanted:
            if wanted not in PORTS:
                raise ValueError(
                    "provided port is not in the valid range. The range of valid ports is "
                    f"{PORTS.start}-{PORTS.stop - 1}"
                )
            if (wanted, protocol) in self._ports:
                raise ValueError("provided port is already allocated")
            self._ports.add((wanted, protocol))
            return wanted
        start = self._environment.number(0, len(PORTS) - 1)
        for offset in range(len(PORTS)):
            port = PORTS[(start + offset) % len(PORTS)]
            if (port, "TCP") not in self._ports and (port, "UDP") not in self._ports:
                self._ports.add((port, protocol))
                return port
        raise ValueError("range is full")

    def release_port(self, port: int, protocol: str) -> None:
        self._ports.discard((port, protocol))


class Taking:
    """What one write takes and gives back, as a context: nothing of it holds unless the write has happened.

    Satisfies the Allocator protocol. What is given back is free for others only when the write is in the store.
    """

    def __init__(self, of: Allocator) -> None:
        self._of = of
        self._addresses: list[str] = []
        self._ports: list[tuple[int, str]] = []
        self._free_addresses: list[str] = []
        self._free_ports: list[tuple[int, str]] = []

    def __enter__(self) -> Taking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release(self._addresses, self._ports)

    async def stored(self, write: Awaitable[T]) -> T:
        """The result of the write; from now on what was taken is kept."""
        try:
            made = await write
        except (
            asyncio.CancelledError
        ):  # the store goes on with it: an address too many is better than one twice
            self._addresses, self._ports = [], []
            raise
        self._addresses, self._ports = [], []
        self._release(self._free_addresses, self._free_ports)
        return made

    def _release(self, addresses: list[str], ports: list[tuple[int, str]]) -> None:
        while addresses:
            self._of.release_ip(addresses.pop())
        while ports:
            self._of.release_port(*ports.pop())

    def take_ip(self, wanted: str) -> str:
        self._addresses.append(address := self._of.take_ip(wanted))
        return address

    def release_ip(self, address: str) -> None:
        self._free_addresses.append(address)

    def take_port(self, wanted: int, protocol: str) -> int:
        port = self._of.take_port(wanted, protocol)
        self._ports.append((port, protocol))
        return port

    def release_port(self, port: int, protocol: str) -> None:
        self._free_ports.append((port, protocol))
