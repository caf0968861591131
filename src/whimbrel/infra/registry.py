"""All places, by name: one Infra (and so one guard) per context and list of kubeconfig files.

Names are `k8s/CONTEXT`; `local` means the embedded Kubernetes, `k8s` the contexts that the configuration file allows,
or the current one where it does not say. Asking here makes no call to any of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from kubewire.errors import ConfigError
from kubewire.kubeconfig import default_paths
from whimbrel.infra.base import NodeShape
from whimbrel.infra.kubernetes.connection import OpenClient, open_client
from whimbrel.infra.kubernetes.contexts import Contexts
from whimbrel.infra.kubernetes.failures import translate
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.infra.kubernetes.settings import KubernetesSettings, default_cpus
from whimbrel.infra.local import NAME as LOCAL
from whimbrel.infra.local import Local
from whimbrel.model.config import Config
from whimbrel.model.errors import ContextNotFound

Paths = Sequence[str | Path]
NO_CONFIG = Config()

_PREFIXES = ("k8s/", "kubernetes/")


class Infras:
    """The places that one server knows. `node_command` is what a node runs: `runtime.pid1.node_command()`;
    `adjust` may change the settings of a context."""

    def __init__(
        self,
        node_command: Sequence[str],
        *,
        adjust: Callable[[str, KubernetesSettings], KubernetesSettings] = lambda context, settings: settings,
        opener: OpenClient = open_client,
    ) -> None:
        self._node_command = tuple(node_command)
        self._adjust = adjust
        self._opener = opener
        self._contexts: dict[tuple[str, ...], Contexts] = {}
        self._infras: dict[tuple[tuple[str, ...], str], KubernetesInfra] = {}

    async def get(self, infra: str, kubeconfig: Paths = ()) -> KubernetesInfra:
        """The place of that name, after a look into the kubeconfig. Raises `ContextNotFound` with the names that
        there are, or `KubeconfigInvalid`."""
        context = await self._context_of(infra, kubeconfig)
        contexts = self._contexts_of(kubeconfig)
        try:
            if context not in await contexts.names():
                await contexts.connection(context)  # raises, and says what there is
        except ConfigError as error:
            raise translate(f"k8s/{context}", "reading the kubeconfig", error) from error
        key = (_key(kubeconfig), context)
        if key not in self._infras:
            settings = self._adjust(context, KubernetesSettings(command=self._node_command))
            self._infras[key] = KubernetesInfra(context, contexts, settings, opener=self._opener)
        return self._infras[key]

    async def candidates(
        self, wanted: str | None, kubeconfig: Paths = (), config: Config = NO_CONFIG
    ) -> list[str]:
        """The places that `--infra` means, best first. None means the same as `k8s`, or nothing (an empty list) when
        there is no context: then the embedded Kubernetes is what is left. Raises `ContextNotFound` for a context that
        there is not, or that the configuration does not allow."""
        if wanted == "local":
            return [LOCAL]
        if wanted in ("k8s", "kubernetes") or wanted is None:
            found = await self._allowed(kubeconfig, config)
            if found or wanted is None:
                return [f"k8s/{name}" for name in found]
            known = ", ".join(await self._names(kubeconfig)) or "none"
            raise ContextNotFound(
                f"The kubeconfig has no current context (contexts there: {known}).",
                remedy="name one (`--infra k8s/NAME`), or use `--infra local`",
            )
        infra = await self.get(wanted, kubeconfig)
        if infra.name != LOCAL and not config.allows(infra.name.partition("/")[2]):
            raise ContextNotFound(
                f"{infra.name} is not among the contexts that {config.source or 'the configuration'} allows "
                f"({', '.join(config.allowed_contexts or ()) or 'none'}).",
                remedy="add it to kubernetes.allowed_contexts there",
            )
        return [infra.name]

    async def known(self, kubeconfig: Paths = (), config: Config = NO_CONFIG) -> list[str]:
        """Every context that may be used. Raises `KubeconfigInvalid`."""
        if config.allowed_contexts is not None:
            return [f"k8s/{name}" for name in config.allowed_contexts]
        return [f"k8s/{name}" for name in await self._names(kubeconfig)]

    async def _allowed(self, kubeconfig: Paths, config: Config) -> list[str]:
        """The contexts that are meant where none is named."""
        if config.allowed_contexts is not None:
            return list(config.allowed_contexts)
        current = await self._current(kubeconfig)
        if not config.all_contexts:
            return [current] if current else []
        names = await self._names(kubeconfig)
        return sorted(names, key=lambda name: (name != current, names.index(name)))

    def local(self, kubeconfig: Paths = ()) -> Local:
        """The embedded Kubernetes."""
        return Local(list(kubeconfig) or default_paths(), infra=lambda: self.get(LOCAL, kubeconfig))

    def default_shape(self, infra: str) -> NodeShape:
        """What a node gets there when the task does not say."""
        context = infra.partition("/")[2] or infra
        return NodeShape(cpus=default_cpus(context))

    async def aclose(self) -> None:
        """Close all connections."""
        infras = list(self._infras.values())
        self._infras.clear()
        await asyncio.gather(*(infra.aclose() for infra in infras))

    async def _context_of(self, infra: str, kubeconfig: Paths) -> str:
        if infra == "local":
            return LOCAL.partition("/")[2]
        for prefix in _PREFIXES:
            if infra.startswith(prefix) and len(infra) > len(prefix):
                return infra[len(prefix) :]
        known = ", ".join(await self._names(kubeconfig)) or "none"
        raise ContextNotFound(
            f"{infra!r} is not a place for clusters (contexts there: {known}).",
            remedy="use `local`, `k8s`, or `k8s/CONTEXT`",
        )

    async def _names(self, kubeconfig: Paths) -> list[str]:
        try:
            return await self._contexts_of(kubeconfig).names()
        except ConfigError as error:
            raise translate("k8s", "reading the kubeconfig", error) from error

    async def _current(self, kubeconfig: Paths) -> str | None:
        try:
            return await self._contexts_of(kubeconfig).current()
        except ConfigError as error:
            raise translate("k8s", "reading the kubeconfig", error) from error

    def _contexts_of(self, kubeconfig: Paths) -> Contexts:
        key = _key(kubeconfig)
        if key not in self._contexts:
            self._contexts[key] = Contexts(key)
        return self._contexts[key]


def _key(kubeconfig: Paths) -> tuple[str, ...]:
    return tuple(str(path) for path in kubeconfig) or tuple(str(path) for path in default_paths())
