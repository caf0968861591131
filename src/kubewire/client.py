"""The Kubernetes client: every verb as one method, each under its deadline.

It decides about time (`Deadlines`), pages and resumption; what a request looks like is in `requests`, how it travels
is the transport's business. Changes are never retried here: whoever calls knows whether repeating is right. Objects
are plain dictionaries, and belong to the caller.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from kubewire import exec as remote
from kubewire import portforward, requests
from kubewire.deadlines import Deadlines
from kubewire.errors import StreamBroken, Unreachable
from kubewire.exec import ExecSession
from kubewire.follow import closed_after, follow
from kubewire.paging import ObjectList, Pager
from kubewire.portforward import PortStream
from kubewire.requests import JsonObject, JsonPatch, PatchType, Request, Response
from kubewire.resources import Resource
from kubewire.transport import ByteStream, Transport
from kubewire.watch import Watch, WatchEvent

_MAX_ERROR_BODY = 64 * 1024


class Client:
    """One API server, as one user. Owns its transport."""

    def __init__(
        self, transport: Transport, deadlines: Deadlines | None = None, *, chance: random.Random | None = None
    ) -> None:
        self.transport = transport
        self.deadlines = deadlines or Deadlines()
        self._chance = chance or random.Random()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the transport."""
        await self.transport.aclose()

    async def raw(self, request: Request, timeout: float) -> Response:
        """Send any request; raises the `ApiError` when the answer is one."""
        return requests.check_response(await self.transport.send(request, timeout=timeout))

    async def version(self) -> JsonObject:
        """The server's version: the cheapest proof that somebody is there."""
        return (await self.raw(requests.version(), self.deadlines.probe)).json()

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, subresource: str | None = None
    ) -> JsonObject:
        """One object. Raises `NotFound`."""
        request = requests.get(resource, name, namespace, subresource=subresource)
        return (await self.raw(request, self.deadlines.read)).json()

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = 500,
        resource_version: str | None = None,
        shrink: Callable[[JsonObject], JsonObject] | None = None,
    ) -> ObjectList:
        """A whole collection, read in pages; without a namespace, over all of them. `shrink` leaves of each object, as
        its page arrives, only what is needed: so that a hundred thousand pods need not be held at once."""
        pager = Pager(
            resource,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            page_size=page_size,
            resource_version=resource_version,
            shrink=shrink,
        )
        while (request := pager.next_request()) is not None:
            pager.feed(await self.transport.send(request, timeout=self.deadlines.page))
        return pager.result()

    async def create(
        self,
        resource: Resource,
        obj: JsonObject,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
        field_manager: str | None = None,
        dry_run: bool = False,
    ) -> JsonObject:
        """Create an object (`AlreadyExists`). With `name` and `subresource`: pods/NAME/binding, pods/NAME/eviction,
        serviceaccounts/NAME/token."""
        request = requests.create(
            resource,
            obj,
            namespace,
            name=name,
            subresource=subresource,
            field_manager=field_manager,
            dry_run=dry_run,
        )
        return await self._change(request)

    async def replace(
        self,
        resource: Resource,
        obj: JsonObject,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        field_manager: str | None = None,
    ) -> JsonObject:
        """Replace an object; `Conflict` when its resource version is no longer the current one."""
        request = requests.replace(
            resource, obj, namespace, subresource=subresource, field_manager=field_manager
        )
        return await self._change(request)

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: JsonObject | JsonPatch,
        namespace: str | None = None,
        *,
        type: PatchType = PatchType.MERGE,
        subresource: str | None = None,
        field_manager: str | None = None,
    ) -> JsonObject:
        """Change a part of an object."""
        request = requests.patch(
            resource, name, patch, namespace, type=type, subresource=subresource, field_manager=field_manager
        )
        return await self._change(request)

    async def apply(
        self,
        resource: Resource,
        obj: JsonObject,
        namespace: str | None = None,
        *,
        field_manager: str,
        force: bool = False,
        subresource: str | None = None,
    ) -> JsonObject:
        """Server-side apply; `Conflict` when another manager owns a field, unless `force`."""
        request = requests.apply(
            resource, obj, namespace, field_manager=field_manager, force=force, subresource=subresource
        )
        return await self._change(request)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        grace_period: int | None = None,
        propagation: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> JsonObject:
        """Ask for the deletion of one object; it may still be there when this returns. Raises `NotFound`, and
        `Conflict` when it is no longer the one with that uid or version."""
        request = requests.delete(
            resource,
            name,
            namespace,
            grace_period=grace_period,
            propagation=propagation,
            uid=uid,
            resource_version=resource_version,
        )
        return await self._change(request)

    async def delete_collection(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> None:
        """Ask for the deletion of all that the selectors match."""
        request = requests.delete_collection(
            resource, namespace, label_selector=label_selector, field_selector=field_selector
        )
        await self.raw(request, self.deadlines.page)

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        resource_version: str | None = None,
        bookmarks: bool = True,
        patience: float | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Follow a collection for ever.

        Without a resource version it starts with a list: an ADDED for each object, then one BOOKMARK that says that
        this was all. It resumes by itself; when changes were missed, one RELISTED carries all there is. What may mend
        itself is retried with backoff, without end or until nothing has worked for `patience` seconds; the last error
        is raised then. What will not mend itself (`Forbidden`, `NotFound`, ...) is raised at once.
        Use it inside `contextlib.aclosing`, so that leaving the loop closes the connection at once.
        """
        watch = Watch(
            resource,
            namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            resource_version=resource_version,
            bookmarks=bookmarks,
            timeout_seconds=self.deadlines.watch,
        )
        return follow(self, watch, patience=patience, chance=self._chance)

    async def list_for(self, watch: Watch) -> ObjectList:
        """The collection that a watch is about."""
        return await self.list(
            watch.resource,
            watch.namespace,
            label_selector=watch.label_selector,
            field_selector=watch.field_selector,
        )

    def open_watch(self, request: Request) -> AbstractAsyncContextManager[ByteStream]:
        """The stream of a watch request. Silence for the idle bound ends it; nobody can tell a quiet cluster from a
        dead connection, and resuming costs little."""
        return self._stream(request, connect=self.deadlines.read, idle=self.deadlines.stream_idle)

    async def logs(
        self,
        name: str,
        namespace: str,
        *,
        container: str | None = None,
        follow: bool = False,
        tail_lines: int | None = None,
        since_seconds: int | None = None,
        timestamps: bool = False,
        previous: bool = False,
    ) -> AsyncGenerator[bytes, None]:
        """What a container printed, in pieces. While following, silence for the idle bound raises `StreamBroken`:
        nobody can tell a quiet container from a dead connection; call again with `since_seconds`."""
        request = requests.logs(
            name,
            namespace,
            container=container,
            follow=follow,
            tail_lines=tail_lines,
            since_seconds=since_seconds,
            timestamps=timestamps,
            previous=previous,
        )
        # the head of a followed log may not come before the first line is printed
        bound = self.deadlines.stream_idle if follow else self.deadlines.read
        async with (
            self._stream(request, connect=bound, idle=bound) as stream,
            closed_after(stream.chunks()) as chunks,
        ):
            async for chunk in chunks:
                yield chunk

    def exec(
        self,
        name: str,
        namespace: str,
        argv: Sequence[str],
        *,
        container: str | None = None,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
    ) -> AbstractAsyncContextManager[ExecSession]:
        """Run a command in a container. The command line lands in URLs and audit logs: no secrets in it."""
        request = requests.exec_(
            name, namespace, argv, container=container, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty
        )
        return self._session(request)

    def attach(
        self,
        name: str,
        namespace: str,
        *,
        container: str | None = None,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
    ) -> AbstractAsyncContextManager[ExecSession]:
        """Attach to a container's main process."""
        request = requests.attach(
            name, namespace, container=container, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty
        )
        return self._session(request)

    @asynccontextmanager
    async def port_forward(self, name: str, namespace: str, port: int) -> AsyncIterator[PortStream]:
        """One connection to a port of a pod."""
        async with self.transport.channel(
            requests.port_forward(name, namespace, port),
            protocols=portforward.PROTOCOLS,
            connect=self.deadlines.change,
            idle=self.deadlines.stream_idle,
        ) as channel:
            yield PortStream(channel, port)

    async def _change(self, request: Request) -> JsonObject:
        return (await self.raw(request, self.deadlines.change)).json()

    @asynccontextmanager
    async def _session(self, request: Request) -> AsyncIterator[ExecSession]:
        async with self.transport.channel(
            request,
            protocols=remote.PROTOCOLS,
            connect=self.deadlines.change,
            idle=self.deadlines.stream_idle,
        ) as channel:
            yield ExecSession(channel)

    @asynccontextmanager
    async def _stream(self, request: Request, *, connect: float, idle: float) -> AsyncIterator[ByteStream]:
        """An open answer that says success; an error answer is read, within a bound, and raised."""
        async with self.transport.stream(request, connect=connect, idle=idle) as stream:
            if not 200 <= stream.status < 300:
                body = await self._error_body(stream)
                requests.check_response(Response(status=stream.status, headers=stream.headers, body=body))
            yield stream

    async def _error_body(self, stream: ByteStream) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self.deadlines.read):
                async for chunk in stream.chunks():
                    body += chunk
                    if len(body) > _MAX_ERROR_BODY:
                        break
        except (TimeoutError, StreamBroken, Unreachable):
            pass  # the status line has said enough
        return bytes(body)
