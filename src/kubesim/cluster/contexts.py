"""The kubeconfig context of a cluster: written when it is created, removed when it is deleted.

A context of the same name that leads to another server belongs to another cluster (another KUBESIM_HOME, perhaps):
it is replaced when a cluster is created, as every tool of this kind does, and left alone when one is deleted.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubesim.cluster.errors import KubeconfigRefused
from kubesim.cluster.home import ClusterPaths
from kubesim.cluster.pki import PkiFiles
from kubesim.cluster.record import ClusterRecord
from kubewire import kubeconfig, kubeconfig_file
from kubewire.errors import KubeError

JsonObject = dict[str, Any]


def entries(pki: PkiFiles, server: str) -> tuple[JsonObject, JsonObject]:
    """The cluster and the user of the context, with certificates inside, so that one file is enough."""
    cluster = {"server": server, "certificate-authority-data": _encoded(pki.ca_cert)}
    user = {
        "client-certificate-data": _encoded(pki.admin_cert),
        "client-key-data": _encoded(pki.admin_key),
    }
    return cluster, user


def whole(paths: ClusterPaths, record: ClusterRecord) -> JsonObject:
    """A kubeconfig that holds nothing but this cluster."""
    return document(paths.context, PkiFiles(paths.pki), record.server)


def document(name: str, pki: PkiFiles, server: str) -> JsonObject:
    """A kubeconfig that holds nothing but the context of this name."""
    cluster, user = entries(pki, server)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
        "users": [{"name": name, "user": user}],
    }


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def default_file() -> str:
    """The file to which a context goes when the user names none, as kubectl would choose it."""
    return str(kubeconfig_file.default_target())


def add(paths: ClusterPaths, record: ClusterRecord, *, make_current: bool) -> None:
    """Write the context, if one is wanted. Without `make_current` it is current only if nothing else was."""
    if not record.kubeconfig:
        return
    cluster, user = entries(PkiFiles(paths.pki), record.server)
    with _as_ours():
        kubeconfig_file.add_context(
            Path(record.kubeconfig), paths.context, cluster=cluster, user=user, make_current=make_current
        )


def remove(paths: ClusterPaths, record: ClusterRecord | None, *, force: bool = False) -> list[str]:
    """Remove the context; what there is to say about it. The present default file is looked at too: the context may
    have been written there by another `create`."""
    recorded = record.kubeconfig if record else ""
    said = _remove_from(Path(recorded), paths, record, force=force) if recorded else []
    default = default_file()
    if default != recorded and (record is None or _leads_to(Path(default), paths.context, record.server)):
        said += _remove_from(Path(default), paths, record, force=force)
    return said


def _leads_to(file: Path, context: str, server: str) -> bool:
    """Whether the context there is this cluster's; a file that is none of ours may be as broken as it likes."""
    try:
        return _server_of(file, context) == server
    except KubeError:
        return False


def _remove_from(file: Path, paths: ClusterPaths, record: ClusterRecord | None, *, force: bool) -> list[str]:
    with _as_ours():
        server = _server_of(file, paths.context)
        if server is None:
            return []
        if record and server != record.server:
            return [
                f"The context {paths.context!r} in {file} leads to {server}, another cluster: it was left alone."
            ]
        kubeconfig_file.remove_context(file, paths.context, force=force)
    return []


def _server_of(file: Path, context: str) -> str | None:
    """Where a context leads; None when the file does not have it, "" when it leads nowhere."""
    document = kubeconfig.read_document(file) if file.exists() else None
    if not any(entry.get("name") == context for entry in (document or {}).get("contexts") or ()):
        return None
    for entry in (document or {}).get("clusters") or ():
        if entry.get("name") == context:
            return str((entry.get("cluster") or {}).get("server", ""))
    return ""


@contextlib.contextmanager
def _as_ours() -> Iterator[None]:
    """What is wrong with the kubeconfig, as an error of a command of ours."""
    try:
        yield
    except KubeError as error:
        raise KubeconfigRefused(
            f"The context could not be changed: {error.message}", remedy=error.remedy
        ) from error
