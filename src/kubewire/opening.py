"""From the name of a context to a client: the one place that puts kubeconfig, transport and client together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kubewire.client import Client
from kubewire.deadlines import Deadlines
from kubewire.http import HttpTransport
from kubewire.kubeconfig import load


def open_client(
    context: str | None = None, *, paths: Sequence[Path] | None = None, deadlines: Deadlines | None = None
) -> Client:
    """A client for a context (by default the current one). Makes no call; raises a `ConfigError`.

    It belongs to the event loop in which it is used first, and is to be closed there.
    """
    table = deadlines or Deadlines()
    return Client(HttpTransport(load(paths).connection(context), table), table)
