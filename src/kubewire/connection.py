"""What is needed to talk to one API server as one user: the outcome of reading a kubeconfig, as plain data.

Nothing is opened or run here. Files are named, not read, because they may be renewed while we are connected.
Secrets are kept out of every `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecPlugin:
    """A command that prints credentials (`users[].user.exec`)."""

    command: str  # absolute, or a name to be found on PATH
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    api_version: str = "client.authentication.k8s.io/v1"
    provide_cluster_info: bool = False
    interactive_mode: str = "IfAvailable"
    install_hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A server and a user. Of data and a file for the same thing, the data wins, as in client-go."""

    server: str
    """`https://host:port/prefix`"""
    context: str = ""
    """The context's name, for messages."""
    source: str = ""
    """The file in which the context stands, for messages."""
    namespace: str = "default"

    ca_data: bytes | None = field(default=None, repr=False)
    ca_file: Path | None = None
    insecure: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = field(default=None, repr=False)  # may hold a password
    disable_compression: bool = False

    certificate_data: bytes | None = field(default=None, repr=False)
    certificate_file: Path | None = None
    key_data: bytes | None = field(default=None, repr=False)
    key_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    exec_plugin: ExecPlugin | None = None
    impersonate: tuple[tuple[str, str], ...] = ()
    """Impersonation headers."""
    exec_config: Mapping[str, Any] | None = field(default=None, repr=False)
    """The cluster's own settings for exec plugins, handed to them unread."""
