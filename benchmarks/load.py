"""Load on a Kubernetes API server from 16 HTTP clients on the same machine: writes, large lists, a crowd of watchers.

The clients are as cheap as clients can be (one process, raw HTTP/1.1 over TLS), because they take their share of the
same cores. The same load runs against a real kube-apiserver with etcd when their binaries are given by path.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

CLIENTS = 16
WATCHERS = 500
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Target:
    """An API server, and the processes that count as it."""

    name: str
    port: int
    ca: Path
    certificate: Path
    key: Path
    pids: Callable[[], list[int]]

    def tls(self) -> ssl.SSLContext:
        """What a client needs to be let in."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.certificate, self.key)
        return context

    def cpu(self) -> float:
        """Seconds of processor time that its processes have used."""
        total = 0.0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / _TICKS
        return total


class Client:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and body of one request."""
        data = json.dumps(body).encode() if body is not None else b""
        await self.send(method, path, data)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        _, found, rest = head.partition(b"content-length:")
        if found:
            return int(head[9:12]), await self.reader.readexactly(int(rest.partition(b"\r\n")[0]))
        parts = []
        while size := int((await self.reader.readline()).strip(), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readline()
        await self.reader.readline()
        return int(head[9:12]), b"".join(parts)

    async def send(self, method: str, path: str, data: bytes = b"") -> None:
        """Write a request and do not wait for the answer."""
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            "Accept: application/json",
            "Content-Type: application/json",
            f"Content-Length: {len(data)}",
        ]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await self.writer.drain()


@asynccontextmanager
async def _clients(target: Target, count: int) -> AsyncIterator[list[Client]]:
    tls = target.tls()
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", target.port, ssl=tls, limit=1 << 24, server_hostname="localhost"
            )
            stack.callback(writer.close)
            found.append(Client(reader, writer))
        yield found


async def _create_all(clients: list[Client], path: str, objects: Iterator[dict[str, object]]) -> None:
    async def work(client: Client) -> None:
        for obj in objects:
            status, answer = await client.request("POST", path, obj)
            if status != 201:
                raise SystemExit(f"POST {path} was answered {status}: {answer[:500]!r}")

    await asyncio.gather(*(work(client) for client in clients))


def _config_maps(count: int, prefix: str) -> Iterator[dict[str, object]]:
    for number in range(count):
        metadata = {"name": f"{prefix}-{number}"}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": "value"}}


def _pods(count: int) -> Iterator[dict[str, object]]:
    """Pods that nobody schedules, each 3.4 KB of JSON as the server answers it."""
    for number in range(count):
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"pod-{number:05}",
                "labels": {"app": "web", "pod-template-hash": "5d4c8f7b9"},
                "annotations": {"note": "x" * 300},
            },
            "spec": {
                "schedulerName": "nobody",
                "containers": [
                    {
                        "name": "main",
                        "image": "busybox:1.36",
                        "command": ["sh", "-c", "sleep 1000"],
                        "env": [{"name": f"VARIABLE_{i}", "value": "x" * 20} for i in range(8)],
                        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}},
                    }
                ],
            },
        }


async def creates_per_second(target: Target, count: int, prefix: str) -> float:
    """Small objects created by 16 clients."""
    async with _clients(target, CLIENTS) as clients:
        start = time.perf_counter()
        path = "/api/v1/namespaces/default/configmaps"
        await _create_all(clients, path, _config_maps(count, prefix))
        return count / (time.perf_counter() - start)


async def fill(target: Target, pods: int) -> None:
    """Create pods, and wait until the controllers have seen them."""
    async with _clients(target, CLIENTS) as clients:
        await _create_all(clients, "/api/v1/namespaces/default/pods", _pods(pods))
    used = target.cpu()
    while True:
        await asyncio.sleep(1)
        if (now := target.cpu()) - used < 0.1:
            return
        used = now


@dataclass(frozen=True)
class Listing:
    """One LIST of all pods."""

    seconds: float
    server_cpu: float
    megabytes: float


async def listing(target: Target) -> Listing:
    """LIST of all pods, without compression."""
    async with _clients(target, 1) as [client]:
        await client.request("GET", "/livez")
        used, start = target.cpu(), time.perf_counter()
        _, body = await client.request("GET", "/api/v1/pods")
        return Listing(time.perf_counter() - start, target.cpu() - used, len(body) / 1e6)


async def fan_out(target: Target, events: int) -> float:
    """Seconds until 500 watchers have seen all creations by 4 clients."""
    async with _clients(target, WATCHERS) as watchers, _clients(target, 4) as writers:
        watching = asyncio.Semaphore(0)

        async def watch(client: Client) -> None:
            await client.send("GET", "/api/v1/namespaces/default/secrets?watch=1&resourceVersion=0")
            await client.reader.readuntil(b"\r\n\r\n")
            watching.release()
            seen, rest = 0, b""
            while seen < events:
                data = rest + await client.reader.read(1 << 20)
                seen += data.count(b'{"type":"ADDED"')
                rest = data[-14:]  # a mark that was cut; too short to be counted twice

        async with asyncio.TaskGroup() as group:
            for client in watchers:
                group.create_task(watch(client), name="watcher")
            for _ in watchers:
                await watching.acquire()
            start = time.perf_counter()
            secrets = (
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"s-{number}"}}
                for number in range(events)
            )
            await _create_all(writers, "/api/v1/namespaces/default/secrets", secrets)
        return time.perf_counter() - start
