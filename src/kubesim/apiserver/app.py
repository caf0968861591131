"""The API server: who asks, what for, may they, and which handler answers.

    api = ApiServer(open_store("memory"))
    await api.start()                       # namespaces and the `kubernetes` Service
    serving = await serve(api, tls=...)     # over HTTP, or
    client = Client(InProcessTransport(api))

A request passes authentication, routing, authorization and negotiation here, and is then one call of a
handler: `reading`, `writing`, `patching`, `deleting`, or what `subresources` names. Handlers are functions of
the Core and the Call; errors of all of them become a Status in one place. What is not a resource (health,
version, discovery) is in `endpoints`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from kubesim import errors
from kubesim.apiserver import (
    bootstrap,
    deleting,
    endpoints,
    patching,
    reading,
    snapshotting,
    subresources,
    usage,
    writing,
)
from kubesim.apiserver.admission import default_admission
from kubesim.apiserver.allocation import DEFAULT_NETWORK, ServiceAddresses
from kubesim.apiserver.asgi import Interfering, Streams
from kubesim.apiserver.audit import Audit
from kubesim.apiserver.auth import Attributes, Authenticator, authorize
from kubesim.apiserver.calls import Call
from kubesim.apiserver.channels import Socket
from kubesim.apiserver.core import Core
from kubesim.apiserver.definitions import Definitions
from kubesim.apiserver.environment import Environment
from kubesim.apiserver.kinds import strategy
from kubesim.apiserver.negotiation import wanted
from kubesim.apiserver.nodes import NodeDirectory
from kubesim.apiserver.rbac.authorizer import RbacAuthorizer
from kubesim.apiserver.rbac.escalation import NoEscalation
from kubesim.apiserver.rendering import Renderer
from kubesim.apiserver.requests import ApiRequest, Reply, StreamReply, User, json_reply
from kubesim.apiserver.routing import Route, parse_route
from kubesim.apiserver.tokens import ServiceAccountTokens, Signer
from kubesim.apiserver.turns import Turns
from kubesim.apiserver.warned import warning_headers
from kubesim.errors import StatusError
from kubesim.schema.bodies import yaml_read_before
from kubesim.schema.registry import Registry, ResourceType, builtin
from kubesim.store import DiskFull, StorageFailed, Store, StoreClosed

log = logging.getLogger(__name__)

_LARGE_YAML = 16 * 1024

Answer = Reply | StreamReply
Handler = Callable[[Core, Call], Awaitable[Answer]]

SNAPSHOT = "/kubesim/v1/snapshot"

_ONE_NAME = re.compile(r"(?:^|,)metadata\.name==?([^,=]+)(?:,|$)")
_COLLECTION = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
_OBJECT = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCE = {**_OBJECT, "POST": "create"}


async def _get(core: Core, call: Call) -> Answer:
    return await reading.get(call)


async def _list(core: Core, call: Call) -> Answer:
    return await reading.list_(call)


async def _watch(core: Core, call: Call) -> Answer:
    return await reading.watch(call, core.registry)


_HANDLERS: dict[str, Handler] = {
    "get": _get,
    "list": _list,
    "watch": _watch,
    "create": writing.create,
    "update": writing.update,
    "patch": patching.patch,
    "delete": deleting.delete,
    "deletecollection": deleting.delete_collection,
}


class ApiServer:
    """One Kubernetes API. It belongs to the event loop that starts it."""

    def __init__(
        self,
        store: Store,
        registry: Registry | None = None,
        nodes: NodeDirectory | None = None,
        auth: Authenticator | None = None,
        environment: Environment | None = None,
        *,
        service_network: str = DEFAULT_NETWORK,
        service_account_key: Path | None = None,
    ) -> None:
        environment = environment or Environment()
        self.store = store
        self.registry = registry or builtin()
        self.nodes = nodes or NodeDirectory()
        tokens = ServiceAccountTokens(store, Signer(service_account_key))
        self.auth = auth or Authenticator()
        self.auth.add(tokens)
        self.authorizer = RbacAuthorizer(store)
        self.auth.authorizer = self.authorizer
        self.audit: Audit | None = None
        self.own_paths: dict[tuple[str, str], Callable[[], Answer]] = {
            ("GET", SNAPSHOT): lambda: StreamReply(chunks=snapshotting.lines(self.core))
        }
        """Beside Kubernetes: what only administrators of this server may ask it, by method and path."""
        self.streams = Streams()
        self.faults: Interfering | None = None
        """Set while there are faults; what comes in over HTTP passes through them."""
        self.core = Core(
            store=store,
            registry=self.registry,
            nodes=self.nodes,
            environment=environment,
            addresses=ServiceAddresses(environment, service_network),
            admission=default_admission(NoEscalation(self.authorizer)),
            auth=self.auth,
            authorizer=self.authorizer,
            tokens=tokens,
        )
        self._definitions = Definitions(self.core)
        self.nodes.when_metered = self.serve_usage
        self._storages: dict[ResourceType, ResourceType] = {}
        self._started = False

    async def start(self) -> None:
        """Make what every cluster has, unless it is there already. Call it once, before serving."""
        self._definitions.load()
        await bootstrap.start(self.core)
        self._definitions.start()
        self._started = True

    def serve_usage(self) -> None:
        """From now on there is something to measure: serve `metrics.k8s.io`."""
        usage.serve(self.registry)

    @property
    def turns(self) -> Turns:
        return self.core.turns

    @property
    def ready(self) -> bool:
        return self._started and not self.streams.draining

    def drain(self) -> None:
        """End all streams cleanly; from now on the server says that it is not ready."""
        self.streams.drain()
        self._definitions.stop()

    # Requests

    def authenticate(self, headers: Mapping[str, str], certificate_user: User | None) -> User:
        return self.auth.authenticate(headers, certificate_user)

    async def handle(self, request: ApiRequest) -> Answer:
        """Answer a request. Never raises, but for cancellation."""
        if self.audit is None:
            return await self._handle(request)
        entry = self.audit.received(request)
        answer = await self._handle(request)
        self.audit.answered(entry, request, answer)
        return answer

    def unauthenticated(self, request: ApiRequest, error: Exception) -> Reply:
        """The answer to somebody who could not say who they are, or may not be whom they want to be."""
        answer = self.failure(error)
        if self.audit is not None:
            self.audit.answered(self.audit.received(request), request, answer)
        return answer

    async def _handle(self, request: ApiRequest) -> Answer:
        answer: Answer
        try:
            answer = await self._dispatch(request)
        except Exception as error:
            answer = self.failure(error)
        answer.headers += warning_headers(request.notes.warnings)
        return answer

    async def _dispatch(self, request: ApiRequest) -> Answer:
        route = parse_route(request.path)
        if route is None or not route.plural:
            verb = request.method.lower()
            authorize(self.authorizer, request.user, Attributes(verb=verb, path=request.path))
            own = self.own_paths.get((request.method, request.path))
            return own() if own is not None else endpoints.answer(self, request, route)
        rt = self.registry.find(route.group, route.version, route.plural)
        verb = verb_of(request, route)
        authorize(self.authorizer, request.user, attributes_of(request, route, verb))
        if rt is None:
            return endpoints.no_such_resource(self.registry, route)
        if rt.namespaced != (route.namespace is not None) and not _across(rt, route, verb):
            return endpoints.no_such_resource(self.registry, route, rt)
        handler = self._handler(rt, route, verb, request)
        call = self._call(request, route, rt, watch=verb == "watch")
        if self.streams.draining and verb == "watch":
            raise errors.unavailable("the server is shutting down")
        if len(request.body) > _LARGE_YAML and "yaml" in request.headers.get("content-type", ""):
            request.document = await asyncio.to_thread(yaml_read_before, request.body)
        answer = await handler(self.core, call)
        deprecation = rt.deprecation or strategy(rt).deprecation
        if deprecation:
            request.notes.warnings.insert(0, deprecation)
        return answer

    def _handler(self, rt: ResourceType, route: Route, verb: str, request: ApiRequest) -> Handler:
        if route.subresource is None:
            methods = _COLLECTION if route.name is None else _OBJECT
            if rt.terminating and verb == "create":
                raise errors.terminating(rt.group_resource, verb)
            if verb not in rt.verbs or request.method not in methods:
                raise errors.method_not_allowed()
            special = subresources.find_for_resource(rt, verb)
            return special or _HANDLERS[verb]
        known = rt.subresources.get(route.subresource)
        if known is None:
            raise errors.no_such_path()
        if verb not in known.verbs:
            raise errors.method_not_allowed()
        return subresources.find(rt, known, verb) or _HANDLERS[verb]

    def _call(self, request: ApiRequest, route: Route, rt: ResourceType, *, watch: bool = False) -> Call:
        storage = rt if rt.custom else self._storages.get(rt)
        if storage is None:
            storage = self._storages[rt] = self.core.storage(rt)
        form = wanted(request.headers.get("accept", ""), watch=watch)
        return Call(
            request=request,
            route=route,
            rt=rt,
            storage=storage,
            store=self.store,
            renderer=Renderer(rt, storage, form, request, self.core.turns),
            turns=self.core.turns,
        )

    async def channel(self, request: ApiRequest, protocols: list[str], socket: Socket) -> Reply | None:
        """Serve a WebSocket; a Reply refuses it."""
        if self.audit is None:
            return await self._channel(request, protocols, socket)
        entry = self.audit.received(request)
        refused: Reply | None = None
        try:
            refused = await self._channel(request, protocols, socket)
        finally:
            self.audit.answered(entry, request, refused or Reply(status=101), verb="create")
        return refused

    async def _channel(self, request: ApiRequest, protocols: list[str], socket: Socket) -> Reply | None:
        try:
            route = parse_route(request.path)
            rt = self.registry.find(route.group, route.version, route.plural) if route else None
            if route is None or rt is None or route.subresource is None:
                raise errors.no_such_path()
            authorize(self.authorizer, request.user, attributes_of(request, route, "create"))
            handler = subresources.find_channel(rt, route.subresource)
            if handler is None or self.streams.draining:
                raise errors.bad_request("this resource cannot be opened as a WebSocket")
            await handler(self.core, self._call(request, route, rt), protocols, socket)
        except Exception as error:
            if socket.accepted:
                log.warning("%s ended: %r", request.path, error, exc_info=_unexpected(error))
                return None
            return self.failure(error)
        return None

    def failure(self, error: Exception) -> Reply:
        """The Status for an error."""
        if isinstance(error, StoreClosed):
            error = errors.unavailable("the server is shutting down")
        elif isinstance(error, DiskFull):
            error = StatusError(507, "InsufficientStorage", f"{error}: {error.remedy}")
        elif isinstance(error, StorageFailed):
            error = errors.internal(f"{error}: {error.remedy}")
        elif isinstance(error, RecursionError):
            error = errors.bad_request("the request makes an object that is too deeply nested")
        elif isinstance(error, TimeoutError):
            error = errors.timeout("Timeout: request did not complete within the allotted timeout")
        elif not isinstance(error, StatusError):
            log.error("a request failed", exc_info=error)
            error = errors.internal(f"{type(error).__name__}: {error}")
        reply = json_reply(error.to_status(), error.code)
        reply.headers.extend(error.headers.items())
        return reply


def verb_of(request: ApiRequest, route: Route) -> str:
    """The verb in the words of authorization and discovery."""
    if route.watch or (request.method == "GET" and route.name is None and request.query.flag("watch")):
        return "watch"
    table = _COLLECTION
    if route.name is not None:
        table = _OBJECT if route.subresource is None else _SUBRESOURCE
    return table.get(request.method, request.method.lower())


def attributes_of(request: ApiRequest, route: Route, verb: str) -> Attributes:
    """What is to be done, for whoever decides about it."""
    namespace = route.namespace or ""
    if route.plural == "namespaces" and not route.group and route.name:
        namespace = route.name
    return Attributes(
        verb=verb,
        path=request.path,
        group=route.group,
        resource=route.plural,
        subresource=route.subresource or "",
        namespace=namespace,
        name=route.name or _selected_name(request, verb),
    )


def _selected_name(request: ApiRequest, verb: str) -> str:
    """The one object that a list or watch is about by its field selector: who may see that may ask so."""
    if verb not in ("list", "watch") or not request.query.has("fieldSelector"):
        return ""
    found = _ONE_NAME.search(request.query.get("fieldSelector"))
    return found[1] if found else ""


def _across(rt: ResourceType, route: Route, verb: str) -> bool:
    """A list or watch of a namespaced resource across all namespaces."""
    return rt.namespaced and route.name is None and verb in ("list", "watch")


def _unexpected(error: Exception) -> bool:
    return not isinstance(error, StatusError | ConnectionError | TimeoutError | ExceptionGroup)
