"""Reading kubeconfigs: several files merged as kubectl merges them, and what one context of them leads to.

The rules are client-go's. The first file that has a context, cluster, user or current-context of a name wins, whole;
nothing of a later entry of the same name is mixed in. Relative paths are relative to the file that they stand in. A
file that does not exist is left out; one that is broken is an error, and so is a name that one file has twice.
Nothing is written here (`kubeconfig_file`), and no credential is used (`credentials`).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kubewire.connection import Connection, ExecPlugin
from kubewire.dial import Endpoint
from kubewire.errors import ConfigError, ContextIncomplete, ContextNotFound, KubeconfigInvalid
from kubewire.exec_plugin import API_VERSIONS
from kubewire.proxy import Proxy, from_environment

_SECTIONS = {"clusters": "cluster", "users": "user", "contexts": "context"}
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_EXEC_EXTENSION = "client.authentication.k8s.io/exec"

LARGEST = 16 * 1024 * 1024
"""Bytes of one file: thousands of contexts, and less than would fill the memory."""

# the C loader is several times as fast; both read the same safe subset
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def default_paths(environ: Mapping[str, str] | None = None) -> list[Path]:
    """The files that kubectl would read: KUBECONFIG, else ~/.kube/config. They need not exist."""
    environ = os.environ if environ is None else environ
    named = [part for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    if named:
        return [Path(part) for part in dict.fromkeys(named)]
    home = environ.get("HOME")
    return [(Path(home) if home else Path.home()) / ".kube" / "config"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One named entry, and the file in which it stands."""

    body: Mapping[str, Any] = field(repr=False)
    path: Path

    def text(self, key: str) -> str | None:
        """A text of the entry; None when it is absent or empty."""
        value = self.body.get(key)
        if value is None or value == "":
            return None
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value)
        raise KubeconfigInvalid(self.path, f"{key} must be a text")

    def flag(self, key: str) -> bool:
        """A boolean of the entry."""
        value = self.body.get(key, False)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise KubeconfigInvalid(self.path, f"{key} must be true or false")

    def data(self, key: str) -> bytes | None:
        """Base64 data of the entry."""
        text = self.text(key)
        if text is None:
            return None
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except binascii.Error:
            raise KubeconfigInvalid(self.path, f"{key} is not base64") from None

    def file(self, key: str) -> Path | None:
        """A path of the entry, relative to its file."""
        text = self.text(key)
        return self.path.parent / text if text is not None else None

    def mapping(self, key: str) -> Mapping[str, Any] | None:
        """A nested mapping of the entry."""
        value = self.body.get(key)
        if value is None or isinstance(value, dict):
            return value
        raise KubeconfigInvalid(self.path, f"{key} must be a mapping")

    def sequence(self, key: str) -> Sequence[Any]:
        """A list of the entry."""
        value = self.body.get(key)
        if value is None or isinstance(value, list):
            return value or []
        raise KubeconfigInvalid(self.path, f"{key} must be a list")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """What the files say together."""

    clusters: Mapping[str, Entry]
    users: Mapping[str, Entry]
    entries: Mapping[str, Entry]  # the contexts
    current: str | None
    missing: Sequence[Path] = ()
    hidden: Sequence[
        tuple[str, Path, Path]
    ] = ()  # contexts that an earlier file has as well: name, used, hidden
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    def contexts(self) -> list[str]:
        """The names of all contexts, in the order of the files."""
        return list(self.entries)

    def connection(self, context: str | None = None) -> Connection:
        """What a context (by default the current one) leads to. Raises a `ConfigError`; makes no call."""
        name = context if context is not None else self.current
        if name is None or name not in self.entries:
            raise ContextNotFound(name, self.contexts(), self.missing if not self.entries else ())
        entry = self.entries[name]
        cluster = self._part(name, entry, "cluster", self.clusters)
        server = cluster.text("server")
        if server is None:
            raise ContextIncomplete(name, "has a cluster without a server")
        endpoint = Endpoint.parse(server, str(cluster.path))
        if entry.text("user") is None and not endpoint.secure:
            user = Entry({}, entry.path)  # what stands behind `kubectl proxy` needs no user
        else:
            user = self._part(name, entry, "user", self.users)
        return Connection(
            context=name,
            source=str(entry.path),
            namespace=entry.text("namespace") or "default",
            server=server,
            **_cluster_fields(cluster, endpoint, self.environ),
            **_user_fields(user),
        )

    def _part(self, context: str, entry: Entry, key: str, known: Mapping[str, Entry]) -> Entry:
        name = entry.text(key)
        if name is None:
            raise ContextIncomplete(context, f"names no {key}")
        if name not in known:
            raise ContextIncomplete(context, f"names the {key} {name!r}, which the kubeconfig does not have")
        return known[name]


def load(paths: Sequence[Path] | None = None, *, environ: Mapping[str, str] | None = None) -> Kubeconfig:
    """Read and merge the files (by default those that kubectl would read). Raises `KubeconfigInvalid`.

    Of the environment only KUBECONFIG, HOME and the proxy variables count.
    """
    environ = os.environ if environ is None else environ
    merged: dict[str, dict[str, Entry]] = {section: {} for section in _SECTIONS}
    current: str | None = None
    missing: list[Path] = []
    hidden: list[tuple[str, Path, Path]] = []
    for path in (named.absolute() for named in (default_paths(environ) if paths is None else paths)):
        document = read_document(path)
        if document is None:
            missing.append(path)
            continue
        top = Entry(document, path)
        current = current or top.text("current-context")
        for section in _SECTIONS:
            for name, body in _named(top, section):
                first = merged[section].setdefault(name, Entry(body, path))
                if section == "contexts" and first.path != path:
                    hidden.append((name, first.path, path))
    return Kubeconfig(
        clusters=merged["clusters"],
        users=merged["users"],
        entries=merged["contexts"],
        current=current,
        missing=missing,
        hidden=hidden,
        environ=dict(environ),
    )


def read_document(path: Path) -> dict[str, Any] | None:
    """One file as a mapping; None when it does not exist."""
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KubeconfigInvalid(path, f"it cannot be read: {error.strerror}") from None
    if len(text) > LARGEST:
        raise KubeconfigInvalid(path, f"it is longer than {LARGEST // 1024**2} MiB")
    try:
        document = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else path
        raise KubeconfigInvalid(where, error.problem or "it is not YAML") from None
    except (yaml.YAMLError, ValueError) as error:
        raise KubeconfigInvalid(path, f"it is not YAML: {str(error).splitlines()[0]}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise KubeconfigInvalid(path, "it is not a mapping")
    return document


def in_cluster(environ: Mapping[str, str] | None = None, directory: Path = _SERVICE_ACCOUNT) -> Connection:
    """The connection of a pod's service account. Raises `ConfigError` outside of a cluster."""
    environ = os.environ if environ is None else environ
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    token = directory / "token"
    if not host or not port or not token.exists():
        raise ConfigError(
            "this process does not run in a Kubernetes pod with a service account",
            remedy="Use a kubeconfig, or mount a service account token.",
        )
    try:
        namespace = (directory / "namespace").read_text().strip()
    except OSError:
        namespace = ""
    return Connection(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        context="in-cluster",
        source=str(directory),
        namespace=namespace or "default",
        ca_file=directory / "ca.crt",
        token_file=token,
    )


def _named(top: Entry, section: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The entries of one section of one file."""
    found: dict[str, Mapping[str, Any]] = {}
    for item in top.sequence(section):
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, (str, int)) or name == "":
            raise KubeconfigInvalid(top.path, f"an entry of {section} has no name")
        if str(name) in found:
            raise KubeconfigInvalid(top.path, f"{section} has the name {str(name)!r} twice")
        body = item.get(_SECTIONS[section])
        if body is not None and not isinstance(body, dict):
            raise KubeconfigInvalid(top.path, f"{_SECTIONS[section]} {str(name)!r} must be a mapping")
        found[str(name)] = body or {}
    return list(found.items())


def _cluster_fields(cluster: Entry, endpoint: Endpoint, environ: Mapping[str, str]) -> dict[str, Any]:
    insecure = cluster.flag("insecure-skip-tls-verify")
    ca_data, ca_file = cluster.data("certificate-authority-data"), cluster.file("certificate-authority")
    if insecure and (ca_data is not None or ca_file is not None):
        raise KubeconfigInvalid(
            cluster.path, "a certificate authority together with insecure-skip-tls-verify is a contradiction"
        )
    proxy = cluster.text("proxy-url") or from_environment(endpoint.scheme, endpoint.host, environ)
    if proxy is not None:
        Proxy.parse(proxy)
    config = None
    for extension in cluster.sequence("extensions"):
        if isinstance(extension, dict) and extension.get("name") == _EXEC_EXTENSION:
            config = extension.get("extension")
    return {
        "ca_data": ca_data,
        "ca_file": None if ca_data is not None else ca_file,
        "insecure": insecure,
        "tls_server_name": cluster.text("tls-server-name"),
        "proxy_url": proxy,
        "disable_compression": cluster.flag("disable-compression"),
        "exec_config": config,
    }


def _user_fields(user: Entry) -> dict[str, Any]:
    if user.mapping("auth-provider") is not None and user.mapping("exec") is None:
        raise KubeconfigInvalid(
            user.path,
            "auth-provider was removed from Kubernetes in 1.26",
            remedy="Replace it by the exec plugin of your provider (gke-gcloud-auth-plugin, kubelogin, ...).",
        )
    certificate_data, certificate_file = user.data("client-certificate-data"), user.file("client-certificate")
    key_data, key_file = user.data("client-key-data"), user.file("client-key")
    if bool(certificate_data or certificate_file) != bool(key_data or key_file):
        raise KubeconfigInvalid(user.path, "a client certificate and its key must come together")
    return {
        "certificate_data": certificate_data,
        "certificate_file": None if certificate_data is not None else certificate_file,
        "key_data": key_data,
        "key_file": None if key_data is not None else key_file,
        "token": user.text("token"),
        "token_file": user.file("tokenFile"),
        "username": user.text("username"),
        "password": user.text("password"),
        "exec_plugin": _exec_plugin(user),
        "impersonate": _impersonation(user),
    }


def _exec_plugin(user: Entry) -> ExecPlugin | None:
    body = user.mapping("exec")
    if body is None:
        return None
    entry = Entry(body, user.path)
    command = entry.text("command")
    if command is None:
        raise KubeconfigInvalid(user.path, "exec has no command")
    version = entry.text("apiVersion")
    if version not in API_VERSIONS:
        raise KubeconfigInvalid(
            user.path,
            f"exec asks for apiVersion {version!r}",
            remedy=f"Use {' or '.join(API_VERSIONS)}; a newer version of the plugin may be needed.",
        )
    env = [(item.get("name"), item.get("value")) for item in entry.sequence("env") if isinstance(item, dict)]
    if os.sep in command:
        command = str(user.path.parent / command)
    return ExecPlugin(
        command=command,
        args=tuple(str(argument) for argument in entry.sequence("args")),
        env=tuple((str(name), str(value or "")) for name, value in env if name),
        api_version=version,
        provide_cluster_info=entry.flag("provideClusterInfo"),
        interactive_mode=entry.text("interactiveMode") or "IfAvailable",
        install_hint=(entry.text("installHint") or "").strip(),
    )


def _impersonation(user: Entry) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    if (name := user.text("as")) is not None:
        headers.append(("impersonate-user", name))
    if (uid := user.text("as-uid")) is not None:
        headers.append(("impersonate-uid", uid))
    headers += [("impersonate-group", str(group)) for group in user.sequence("as-groups")]
    for key, values in (user.mapping("as-user-extra") or {}).items():
        headers += [(f"impersonate-extra-{str(key).lower()}", str(value)) for value in values or ()]
    return tuple(headers)
