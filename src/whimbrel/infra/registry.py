"""All places, by name: one Infra (and so one guard) per context and list of kubeconfig files.

Names are `k8s/CONTEXT`; `local` means the embedded Kubernetes, `k8s` the contexts that the configuration file allows,
or the current one where it does not say. Asking here makes no call to any of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from kubewire.deadlines import Deadlines
from kubewire.errors import ConfigError
from kubewire.kubeconfig import default_paths
from whimbrel.infra.base import NodeShape
from whimbrel.infra.guard import GuardView
from whimbrel.infra.kubernetes.connection import OpenClient, open_client
from whimbrel.infra.kubernetes.contexts import Contexts
from whimbrel.infra.kubernetes.failures import translate
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.infra.kubernetes.settings import KubernetesSettings, default_cpus
from whimbrel.infra.local import NAME as LOCAL
from whimbrel.infra.local import Local
from whimbrel.model.config import Config
from whimbrel.model.errors import ContextNotFound, InvalidConfig

Paths = Sequence[str | Path]
NO_CONFIG = Config()

logger = logging.getLogger(__name__)

_PREFIXES = ("k8s/", "kubernetes/")


async def _no_config() -> Config:
    return Config()


class Infras:
    """The places that one server knows. `node_command` is what a node runs: `runtime.pid1.node_command()`;
    `config` reads the configuration each time that a place is asked for (while its file is broken, what it said last
    holds), and `adjust` may change the settings of a context."""

    def __init__(
        self,
        node_command: Sequence[str],
        *,
        config: Callable[[], Awaitable[Config]] = _no_config,
        adjust: Callable[[str, KubernetesSettings], KubernetesSettings] = lambda context, settings: settings,
        opener: OpenClient = open_client,
    ) -> None:
        self._node_command = tuple(node_command)
        self._read_config = config
        self._config = Config()
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
        settings = await self._settings(context)
        key = (_key(kubeconfig), context)
        if key not in self._infras:
            self._infras[key] = KubernetesInfra(context, contexts, settings, opener=self._opener)
        self._infras[key].configure(settings)
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

    def views(self) -> dict[str, GuardView]:
        """How the guards stand, by name; a name that several kubeconfigs have is told with the files of the later."""
        found: dict[str, GuardView] = {}
        for (paths, _), infra in self._infras.items():
            name = infra.name if infra.name not in found else f"{infra.name} ({os.pathsep.join(paths)})"
            found[name] = infra.breaker
        return found

    def warnings(self, kubeconfig: Paths) -> list[dict[str, Any]]:
        """What the kubeconfig files hide or lack, though they can be used, as errors for the wire."""
        return [error.to_wire() for error in self._contexts_of(kubeconfig).warnings()]

    def view(self, infra: str, kubeconfig: Paths) -> GuardView | None:
        """How the guard of one place stands; None when it was not asked for yet."""
        known = self._infras.get((_key(kubeconfig), infra.partition("/")[2]))
        return known.breaker if known else None

    async def aclose(self) -> None:
        """Close all connections."""
        infras = list(self._infras.values())
        self._infras.clear()
        await asyncio.gather(*(infra.aclose() for infra in infras))

    async def _settings(self, context: str) -> KubernetesSettings:
        try:
            self._config = await self._read_config()
        except InvalidConfig as error:  # who asks for the configuration is told; what runs goes on
            logger.warning("the configuration is not followed: %s", error, extra={"action": "config-invalid"})
        deadlines = Deadlines().override(self._config.of(context).deadlines)
        return self._adjust(context, KubernetesSettings(command=self._node_command, deadlines=deadlines))

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
