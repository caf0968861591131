"""A pod as a Node: exec over the API server, with kubewire's errors told in ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import kubewire.errors as kube
from kubewire.exec import ExecSession
from whimbrel.infra.kubernetes.connection import Link
from whimbrel.infra.kubernetes.failures import translate
from whimbrel.model.errors import InfraError, InfraRefused, NodeLost
from whimbrel.model.podconfig import CONTAINER


class KubernetesNode:
    """The road to one pod. Made without a call."""

    def __init__(
        self,
        link: Link,
        name: str,
        namespace: Callable[[], str],
        same_place: Callable[[], Awaitable[None]],
    ) -> None:
        self._link = link
        self._name = name
        self._namespace = namespace
        self._same_place = same_place

    @property
    def name(self) -> str:
        """The pod's name."""
        return self._name

    @asynccontextmanager
    async def exec(
        self, argv: Sequence[str], *, stdin: bool = False, tty: bool = False
    ) -> AsyncIterator[PodStream]:
        """Start a command in the pod. A pod that is not there, or not ready for it, is `NodeLost`; in another cluster
        than the recorded one nothing is started, whatever is there under the same name."""
        await self._same_place()
        what = f"exec on {self._name}"
        async with self._link.stream(what) as client, AsyncExitStack() as stack:
            try:
                async with self._link.guard.opening(what):
                    try:
                        session = await stack.enter_async_context(
                            client.exec(
                                self._name,
                                self._namespace(),
                                argv,
                                container=CONTAINER,
                                stdin=stdin,
                                stderr=not tty,
                                tty=tty,
                            )
                        )
                    except (kube.NotFound, kube.BadRequest, kube.ServerError, kube.TooManyRequests) as error:
                        raise self.lost(error) from error
            except InfraRefused as error:
                raise self.lost(error) from error
            yield PodStream(self, session)

    def lost(self, error: Exception) -> InfraError:
        """What a failure on the way to this pod means."""
        if isinstance(error, kube.ApiError):
            return NodeLost(f"{self._link.name}: the node {self._name} cannot be reached: {error.message}")
        known = translate(self._link.name, f"the stream to {self._name}", error)
        return known if not isinstance(known, InfraRefused) else NodeLost(known.message, remedy=known.remedy)


class PodStream:
    """An ExecStream over a session of kubewire's."""

    def __init__(self, node: KubernetesNode, session: ExecSession) -> None:
        self._node = node
        self._session = session

    async def write(self, data: bytes) -> None:
        """See `ExecStream`."""
        try:
            await self._session.write(data)
        except kube.KubeError as error:
            raise self._node.lost(error) from error

    async def close_stdin(self) -> None:
        """See `ExecStream`. Below Kubernetes 1.30 a stream has no end of stdin: `InfraRefused`."""
        try:
            await self._session.close_stdin()
        except kube.NotSupported as error:
            raise InfraRefused(f"node {self._node.name}: {error.message}", remedy=error.remedy) from error
        except kube.KubeError as error:
            raise self._node.lost(error) from error

    async def output(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """See `ExecStream`."""
        try:
            async for piece in self._session.output():
                yield piece
        except kube.KubeError as error:
            raise self._node.lost(error) from error

    async def exit_code(self) -> int:
        """See `ExecStream`. 127 where the server says that there was nothing to run."""
        try:
            return await self._session.exit_code()
        except kube.ApiError as error:
            if "not found" in error.message or "no such file" in error.message:
                return 127
            raise self._node.lost(error) from error
        except kube.KubeError as error:
            raise self._node.lost(error) from error
