"""The same tests against a real cluster: a context of the user's kubeconfig.

What only an embedded cluster can do (a clock that moves, faults, fresh clusters) is not here; the fixtures skip the
tests that ask for it. The user's files are not touched: the context is copied to a file of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from kubesim.testing.cluster import Cluster
from kubesim.testing.loopthread import LoopThread
from kubewire import kubeconfig
from kubewire.errors import ContextNotFound

_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


class ForeignCluster(Cluster):
    """Somebody else's cluster."""

    def __init__(self, context: str, directory: Path) -> None:
        path = directory / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(_only(context)))
        super().__init__(path, context, LoopThread("kubesim: client"))

    def close(self) -> None:
        super().close()
        self.loop.close()


def _only(context: str) -> dict[str, Any]:
    """A kubeconfig with this context alone. Raises a ConfigError."""
    config = kubeconfig.load()
    if context not in config.entries:
        raise ContextNotFound(context, config.contexts(), config.missing)
    config.connection(context)  # complains about what is incomplete
    entry = config.entries[context]
    document: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": context}
    document["contexts"] = [{"name": context, "context": dict(entry.body)}]
    for section, key, known in (("clusters", "cluster", config.clusters), ("users", "user", config.users)):
        name = entry.text(key)
        if name is not None and name in known:
            document[section] = [{"name": name, key: _absolute(known[name])}]
    return document


def _absolute(entry: kubeconfig.Entry) -> dict[str, Any]:
    """The entry with its relative file names completed, because it moves to another directory."""
    body = dict(entry.body)
    for key in _FILES:
        file = entry.file(key)
        if file is not None:
            body[key] = str(file)
    return body
