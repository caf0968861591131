"""What only pods have: binding, eviction, and the streams log, exec, attach and portforward.

The streams belong to the kubelet of the pod's node: this module checks the question as the real server does,
finds the kubelet, and lets `channels` carry the bytes. Binding and eviction are writes like any other, with
rules of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from kubesim import errors
from kubesim.apiserver import channels
from kubesim.apiserver.admission.base import Attempt
from kubesim.apiserver.calls import Call
from kubesim.apiserver.channels import Socket
from kubesim.apiserver.core import Core
from kubesim.apiserver.nodes import ExecOptions, LogOptions, NodeApi, NodeError
from kubesim.apiserver.requests import JsonObject, Query, Reply, StreamReply
from kubesim.apiserver.spdy import forwarding, processes
from kubesim.apiserver.spdy.forwarding import Forwarding
from kubesim.errors import FieldError, StatusError

KUBELET_PORT = 10250
FIRST_LINE = 0.25


def _pod(call: Call) -> JsonObject:
    stored = call.table.get(call.key)
    if stored is None:
        raise call.not_found()
    return call.renderer.decoded(stored)


def _containers(pod: JsonObject) -> list[str]:
    spec = pod["spec"]
    return [
        container["name"]
        for key in ("initContainers", "containers", "ephemeralContainers")
        for container in spec.get(key) or ()
    ]


def _container(call: Call, pod: JsonObject) -> str:
    """The container that the query names, or the only one there is."""
    name = pod["metadata"]["name"]
    wanted = call.request.query.get("container")
    if wanted:
        if wanted not in _containers(pod):
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    choices = [container["name"] for container in pod["spec"]["containers"]]
    if len(choices) == 1:
        return str(choices[0])
    default = (pod["metadata"].get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    if default in choices:
        return str(default)
    text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(choices)}]"
    initial = [container["name"] for container in pod["spec"].get("initContainers") or ()]
    if initial:
        text += f" or one of the init containers: [{' '.join(initial)}]"
    raise errors.bad_request(text)


def _kubelet(core: Core, pod: JsonObject, path: str) -> NodeApi:
    node = pod["spec"]["nodeName"]
    kubelet = core.nodes.find(node)
    if kubelet is None:
        raise errors.unclassified(
            f'Get "https://{node}:{KUBELET_PORT}/{path}": dial tcp: lookup {node}: no such host'
        )
    return kubelet


def _refused(error: NodeError) -> StatusError:
    """The kubelet's words, in the form in which the API server passes them on."""
    if error.code == 404:
        return StatusError(404, "NotFound", str(error), {})
    if error.code == 400:
        return errors.bad_request(str(error))
    return errors.internal(str(error))


# Logs


async def log(core: Core, call: Call) -> Reply | StreamReply:
    pod = _pod(call)
    container = _container(call, pod)
    options = _log_options(call)
    if not pod["spec"].get("nodeName"):
        # The real server has nobody to ask either, and answers with nothing.
        return Reply(status=204, content_type="")
    meta = pod["metadata"]
    path = f"containerLogs/{meta['namespace']}/{meta['name']}/{container}"
    kubelet = _kubelet(core, pod, path)
    stream = kubelet.logs(meta["namespace"], meta["name"], container, options)
    first = asyncio.ensure_future(_next(stream))
    # A refusal comes at once and becomes a Status; the first line of a log that is followed may take its
    # time.
    await asyncio.wait({first}, timeout=FIRST_LINE)
    if first.done():
        try:
            first.result()
        except NodeError as error:
            raise _refused(error) from None
    return StreamReply(chunks=_limited(first, stream, options.limit_bytes), content_type="text/plain")


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    return await anext(stream, None)


async def _limited(
    first: asyncio.Future[bytes | None], stream: AsyncIterator[bytes], limit: int | None
) -> AsyncIterator[bytes]:
    left = limit
    try:
        chunk = await first
        while chunk is not None:
            if left is not None:
                chunk = chunk[:left]
                left -= len(chunk)
            if chunk:
                yield chunk
            if left == 0:
                return
            chunk = await anext(stream, None)
    finally:
        first.cancel()
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _log_options(call: Call) -> LogOptions:
    query = call.request.query
    problems: list[FieldError] = []
    tail = _number(query, "tailLines", 0, problems)
    since = _number(query, "sinceSeconds", 1, problems)
    limit = _number(query, "limitBytes", 1, problems)
    since_time = query.get("sinceTime")
    if since is not None and since_time:
        problems.append(
            errors.forbidden_field("", "at most one of `sinceTime` or `sinceSeconds` may be specified")
        )
    moment = None
    if since_time:
        try:
            moment = datetime.fromisoformat(since_time)
        except ValueError:
            raise errors.bad_request(f"parsing time {errors.quoted(since_time)}: invalid") from None
    if problems:
        raise errors.invalid("PodLogOptions", call.name, problems)
    return LogOptions(
        follow=query.flag("follow"),
        tail_lines=tail,
        since_seconds=since,
        since_time=moment,
        timestamps=query.flag("timestamps"),
        limit_bytes=limit,
        previous=query.flag("previous"),
    )


def _number(query: Query, name: str, least: int, problems: list[FieldError]) -> int | None:
    text = query.get(name)
    if not text:
        return None
    try:
        value = int(text)
    except ValueError:
        quoted = errors.quoted(text)
        raise errors.bad_request(f"strconv.ParseInt: parsing {quoted}: invalid syntax") from None
    if value < least:
        detail = "must be greater than or equal to 0" if least == 0 else "must be greater than 0"
        problems.append(errors.invalid_value(name, value, detail))
    return value


# exec, attach, portforward


def check_stream(core: Core, call: Call) -> tuple[JsonObject, str]:
    """The pod and the container of an exec or attach. Raises StatusError as the real server does."""
    pod = _pod(call)
    container = _container(call, pod)
    return _with_host(pod), container


def _with_host(pod: JsonObject) -> JsonObject:
    if not pod["spec"].get("nodeName"):
        raise errors.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    return pod


async def refuse_stream(core: Core, call: Call) -> Reply:
    """exec, attach or portforward without an upgrade to WebSocket or SPDY/3.1."""
    if call.route.subresource == "portforward":
        _with_host(_pod(call))
    else:
        check_stream(core, call)
    raise errors.bad_request("Upgrade request required")


async def exec_(core: Core, call: Call, protocols: list[str], socket: Socket) -> None:
    pod, container = check_stream(core, call)
    options = _exec_options(call)
    meta = pod["metadata"]
    verb = str(call.route.subresource)
    await _admit(core, call, *_shown(verb, options, call.request.query.get("container")))
    kubelet = _kubelet(core, pod, f"{verb}/{meta['namespace']}/{meta['name']}/{container}")
    tunnel = channels.SPDY + processes.PROTOCOL
    protocol = channels.choose(protocols, (*channels.EXEC_PROTOCOLS, tunnel))
    if protocol is None:
        known = ", ".join((*channels.EXEC_PROTOCOLS, tunnel))
        raise errors.bad_request(f"unable to upgrade: this server speaks only {known}")
    try:
        if verb == "exec":
            stream = await kubelet.exec(meta["namespace"], meta["name"], container, options)
        else:
            stream = await kubelet.attach(meta["namespace"], meta["name"], container, options)
    except NodeError as error:
        raise _refused(error) from None
    await socket.accept(protocol)
    carry = processes.run_process if protocol == tunnel else channels.run_process
    await carry(socket, stream, options)


async def _admit(core: Core, call: Call, kind: str, options: JsonObject) -> None:
    """Ask policies and webhooks about opening a stream."""
    tried = Attempt(
        operation="CONNECT",
        rt=call.rt,
        subresource=call.route.subresource or "",
        namespace=call.namespace,
        name=call.name,
        user=call.request.user,
        of=("", "v1", kind),
        notes=call.request.notes,
    )
    await core.admission.ask(core, tried, {"kind": kind, "apiVersion": "v1", **options})


def _shown(verb: str, options: ExecOptions, container: str) -> tuple[str, JsonObject]:
    """The options of an exec or attach as an object."""
    shown: JsonObject = {
        name: True for name in ("stdin", "stdout", "stderr", "tty") if getattr(options, name)
    }
    if container:
        shown["container"] = container
    if verb == "attach":
        return "PodAttachOptions", shown
    return "PodExecOptions", {**shown, "command": list(options.command)}


def _exec_options(call: Call) -> ExecOptions:
    query = call.request.query
    command = tuple(query.all("command"))
    if call.route.subresource == "exec" and not command:
        raise errors.bad_request("you must specify at least 1 command for the container")
    options = ExecOptions(
        command=command,
        stdin=query.flag("stdin"),
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr") and not query.flag("tty"),
        tty=query.flag("tty"),
    )
    if not (options.stdin or options.stdout or options.stderr):
        raise errors.bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return options


async def port_forward(core: Core, call: Call, protocols: list[str], socket: Socket) -> None:
    pod = _with_host(_pod(call))
    meta = pod["metadata"]
    kubelet = _kubelet(core, pod, f"portForward/{meta['namespace']}/{meta['name']}")
    ports = _ports(call.request.query)
    await _admit(core, call, "PodPortForwardOptions", {"ports": ports})
    tunnel = channels.SPDY + forwarding.PROTOCOL
    protocol = channels.choose(protocols, (tunnel, *channels.PORT_FORWARD_PROTOCOLS))
    if protocol is None or not (ports or protocol == tunnel):
        known = ", ".join(filter(None, (tunnel, *channels.PORT_FORWARD_PROTOCOLS)))
        raise errors.bad_request(f"unable to upgrade: port forwarding takes `ports` and one of {known}")

    async def dial(port: int) -> Any:
        try:
            return await kubelet.dial(meta["namespace"], meta["name"], port)
        except NodeError as error:
            raise ConnectionRefusedError(str(error)) from None

    await socket.accept(protocol)
    if protocol == tunnel:
        await Forwarding(socket, dial, f"{meta['name']}, uid {meta['uid']}").run()
    else:
        await channels.forward_ports(socket, ports, dial)


def _ports(query: Query) -> list[int]:
    ports = []
    for text in ",".join(query.all("ports")).split(","):
        if not text:
            continue
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise errors.bad_request(f"invalid port {errors.quoted(text)}")
        ports.append(int(text))
    return ports
