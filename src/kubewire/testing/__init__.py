"""Servers for tests: real ones on loopback, working or broken on purpose.

    async with broken("silent") as url: ...                       an endpoint with a defect, by name
    async with http_server(handler) as server: ...                an API server that a test scripts
    async with stream_server(far_end) as url: ...                 exec and port-forward over WebSocket
    authority = Authority(); authority.server("127.0.0.1")        certificates, right and wrong ones

Part of the product, so that whimbrel's fault tests, kubesim's and those of others break things in the same ways. It
needs nothing beside the package itself; nothing here is imported by it.
"""

from kubewire.testing.faults import KINDS, broken
from kubewire.testing.pki import Authority, Issued
from kubewire.testing.servers import Exchange, Received, Server, http_server, tcp_server
from kubewire.testing.streams import Process, stream_server

__all__ = [
    "KINDS",
    "Authority",
    "Exchange",
    "Issued",
    "Process",
    "Received",
    "Server",
    "broken",
    "http_server",
    "stream_server",
    "tcp_server",
]
