"""All faults of one server, and where they take hold of it.

    faults = Interference(api, door, files)             # `serve` makes one
    faults.command("fault.add", {"kind": "hang", ...})  # what the control socket, and a test, say to it

`api.faults` leads here while any fault of requests is set, and is None otherwise: that is all that a server without
faults pays. Everything here belongs to the loop of the server.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from kubesim.apiserver.app import ApiServer, attributes_of, verb_of
from kubesim.apiserver.asgi import Connection, Receive, Scope, Send, headers_of
from kubesim.apiserver.door import Door, Verdict
from kubesim.apiserver.faults import channels, effects, presets
from kubesim.apiserver.faults.active import ActiveFaults, Fault
from kubesim.apiserver.faults.effects import App, Struck
from kubesim.apiserver.faults.kinds import checked
from kubesim.apiserver.faults.matching import Seen
from kubesim.apiserver.faults.spec import FaultRefused, JsonObject, NoSuchFault, Spec, from_json
from kubesim.apiserver.requests import ANONYMOUS, ApiRequest, Query
from kubesim.apiserver.routing import parse_route
from kubesim.errors import StatusError

OURSELVES = "kubesim"
"""The user agent of the commands of kubesim: no fault is meant for them."""
_LOOK = 0.05  # seconds between two looks at the revision, while a fault asks for reads of some seconds ago


class Authority(Protocol):
    """Where a certificate is from."""

    @property
    def client_ca(self) -> Path: ...

    @property
    def ca_key(self) -> Path | None: ...


class OpenConnections(Protocol):
    def reset(self) -> None: ...

    def freeze(self, frozen: bool) -> None: ...


class Interference:
    def __init__(
        self, api: ApiServer, door: Door, connections: OpenConnections, authority: Authority | None
    ) -> None:
        self._api = api
        self._door = door
        self._connections = connections
        self._authority = authority
        self._loop = asyncio.get_running_loop()
        self._active = ActiveFaults(self._loop, self._take_hold)
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._past = _Past(api, self._loop)
        self._commands: Mapping[str, Callable[[Mapping[str, Any]], JsonObject]] = {
            "fault.add": self._add,
            "fault.list": self._list,
            "fault.remove": self._remove,
            "fault.clear": self._clear,
        }

    def close(self) -> None:
        """The server ends: nobody is let go who would then be served."""
        self._past.stop()
        for fault in self._active.all():
            if fault.timer is not None:
                fault.timer.cancel()

    # What can be said to it

    def command(self, name: str, arguments: Mapping[str, Any]) -> JsonObject:
        """Do one of the commands. Raises FaultRefused, NoSuchFault."""
        found = self._commands.get(name)
        if found is None:
            raise FaultRefused(f"There is no command {name!r}.")
        return found(arguments)

    def _add(self, arguments: Mapping[str, Any]) -> JsonObject:
        named = arguments.get("kind")
        told = self._of_preset(str(named), arguments) if named in presets.PRESETS else [from_json(arguments)]
        specs = [checked(one) for one in told]
        self._prepare(specs)
        added = self._active.add(specs)
        if any(one.get("existing") for one in added):
            self._connections.reset()
        return {"faults": [self._shown(one) for one in added], "warnings": self._doubts(specs)}

    def _of_preset(self, name: str, arguments: Mapping[str, Any]) -> list[Spec]:
        more = {key for key, value in arguments.items() if value not in (None, [], (), {})}
        more -= {"kind", "seed", "seconds"}
        if more:
            raise FaultRefused(
                f"{name} is a preset: it takes no {sorted(more)[0]}.",
                remedy="Set the faults of which it is made: they are in docs/kubesim/faults.md.",
            )
        seed, seconds = arguments.get("seed"), arguments.get("seconds")
        return presets.faults_of(name, seed=seed, seconds=seconds)

    def _list(self, arguments: Mapping[str, Any]) -> JsonObject:
        return {"faults": [self._shown(one) for one in self._active.all()]}

    def _remove(self, arguments: Mapping[str, Any]) -> JsonObject:
        wanted = [str(one) for one in arguments.get("ids", ())]
        found: dict[str, Fault] = {}
        for id_ in wanted:
            some = self._active.find(id_)
            if not some:
                raise NoSuchFault(id_)
            found |= {one.id: one for one in some}
        self._active.remove(found.values())
        return {"removed": list(found)}

    def _clear(self, arguments: Mapping[str, Any]) -> JsonObject:
        every = self._active.all()
        self._active.remove(every)
        return {"removed": [one.id for one in every]}

    def _shown(self, fault: Fault) -> JsonObject:
        return fault.to_json(self._loop.time())

    def _prepare(self, specs: list[Spec]) -> None:
        """Make what cannot be made any more when a connection is there."""
        for spec in specs:
            if spec.kind != "certificate":
                continue
            if self._authority is None or not self._door.tls:
                raise FaultRefused("This server speaks plain HTTP: it shows no certificate.")
            from kubesim.apiserver.faults.certificates import bad_context  # imports cryptography's types

            how = str(spec.parameters["how"])
            self._contexts[how] = bad_context(how, self._authority.client_ca, self._authority.ca_key)

    def _doubts(self, specs: list[Spec]) -> list[str]:
        """What fits nothing that is served now; it may be served later."""
        served = {word for rt in self._api.registry.all() for word in _called(rt)}
        wanted = dict.fromkeys(word for spec in specs for word in spec.match.resources)
        return [
            f"nothing that is served now is called {one!r}" for one in wanted if one.lower() not in served
        ]

    # Where it takes hold

    def _take_hold(self) -> None:
        """Of what the faults need that are set now, and of nothing else."""
        active = self._active.active()
        self._api.faults = self if any(not one.kind.connections for one in active) else None
        kinds = {one.spec.kind for one in active}
        self._door.shut(any(one.spec.kind == "refuse" and one.get("how") == "refused" for one in active))
        judged = any(
            one.spec.kind == "certificate" or one.get("how") in ("reset", "closed")
            for one in active
            if one.kind.connections
        )
        self._door.judge(self._verdict if judged else None)
        self._door.freeze("partition" in kinds)
        self._connections.freeze("partition" in kinds)
        ages = [one.number("age") for one in active if one.get("age")]
        self._past.remember(max(ages, default=0.0))

    def _verdict(self) -> Verdict | None:
        fault = self._active.strike_connection()
        if fault is None:
            return None
        how = str(fault.get("how"))
        if fault.spec.kind == "certificate":
            return Verdict(how="tls", context=self._contexts[how])
        return Verdict(how=how)

    async def serve(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """A request or a WebSocket, while there are faults."""
        headers = headers_of(scope)
        connection: Connection | None = scope.get("state", {}).get("connection")
        if connection is None or headers.get("user-agent") == OURSELVES:
            await app(scope, receive, send)
            return
        seen = self._see(scope, headers, connection)
        faults = self._active.strike(seen)
        if not faults:
            await app(scope, receive, send)
            return
        stale = [self._as_of(one) for one in faults if one.spec.kind == "stale"]
        if stale:
            scope["as_of"] = min(stale)
        struck = Struck(
            app=app,
            scope=scope,
            receive=receive,
            send=send,
            seen=seen,
            connection=connection,
            streams=self._api.streams,
            faults=faults,
        )
        await (channels if seen.channel else effects).interfere(struck)

    def _as_of(self, fault: Fault) -> int:
        ago = fault.whole("revisions")
        if ago is not None:
            return max(self._api.store.revision - ago, 0)
        return self._past.revision(fault.number("age"))

    def _see(self, scope: Scope, headers: dict[str, str], connection: Connection) -> Seen:
        try:
            user = self._api.authenticate(headers, connection.certificate_user)
        except StatusError:
            user = ANONYMOUS
        channel = scope["type"] == "websocket"
        request = ApiRequest(
            method=scope.get("method", "GET"),
            path=scope["path"],
            query=Query.parse(scope["query_string"].decode("latin-1")),
            headers=headers,
            user=user,
        )
        agent = headers.get("user-agent", "")
        route = parse_route(request.path)
        if route is None or not route.plural:
            verb = request.method.lower()
            return Seen(verb=verb, path=request.path, user_agent=agent, user=user.name, channel=channel)
        what = attributes_of(request, route, "create" if channel else verb_of(request, route))
        rt = self._api.registry.find(route.group, route.version, route.plural)
        return Seen(
            verb=what.verb,
            path=request.path,
            group=what.group,
            resource=what.resource,
            called=_called(rt) if rt is not None else frozenset({what.resource}),
            subresource=what.subresource,
            namespace=what.namespace,
            name=what.name,
            user_agent=agent,
            user=user.name,
            channel=channel,
        )


class _Named(Protocol):
    @property
    def plural(self) -> str: ...

    @property
    def singular(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def short_names(self) -> tuple[str, ...]: ...


def _called(rt: _Named) -> frozenset[str]:
    return frozenset(one.lower() for one in (rt.plural, rt.singular, rt.kind, *rt.short_names) if one)


class _Past:
    """Which revision was the newest how long ago: remembered only while somebody asks."""

    def __init__(self, api: ApiServer, loop: asyncio.AbstractEventLoop) -> None:
        self._api = api
        self._loop = loop
        self._kept = 0.0
        self._seen: deque[tuple[float, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def remember(self, seconds: float) -> None:
        """From now on, for so long."""
        self._kept = seconds
        if not seconds:
            self.stop()
        elif self._timer is None:
            self._look()

    def revision(self, ago: float) -> int:
        """The newest revision of then, or the oldest that is remembered."""
        then = self._loop.time() - ago
        found = self._seen[0][1] if self._seen else self._api.store.revision
        for when, revision in self._seen:
            if when > then:
                break
            found = revision
        return found

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._seen.clear()

    def _look(self) -> None:
        now = self._loop.time()
        revision = self._api.store.revision
        if not self._seen or self._seen[-1][1] != revision:
            self._seen.append((now, revision))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._kept:
            self._seen.popleft()
        self._timer = self._loop.call_later(_LOOK, self._look)
