"""The volumes of a pod, as folders below the pod's own folder.

A plain process cannot have something mounted for it: a volume's folder is reached through a link at
`$KUBESIM_ROOT/<mountPath>`, and nothing is ever created at the mount path of the machine itself. The content of
configMap, secret, downwardAPI and projected volumes is worked out here as pure data (`files_of`), written when the pod
starts (`payload.py`) and kept up to date while it runs (`refreshing.py`). A claim's folder is where its volume is on
this machine. What a volume refers to is read elsewhere (`references.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesim.kubelet import payload
from kubesim.kubelet.environment import Sources
from kubesim.kubelet.payload import File
from kubesim.kubelet.podfields import FieldError, field_value, resource_value

_DEFAULT_MODE = 0o644
KNOWN = (
    *("emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected"),
    *("persistentVolumeClaim", "ephemeral"),
)


class VolumeError(Exception):
    """A volume cannot be made: the pod waits, and an event FailedMount says why."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The volume is a folder or file that is there without the pod."""

    path: Path
    kind: str  # a hostPath type


def kind_of(volume: Mapping[str, Any]) -> str:
    """Which of the known kinds a volume is. Raises VolumeError."""
    for kind in KNOWN:
        if kind in volume:
            return kind
    unknown = next((key for key in volume if key != "name"), "no source")
    raise VolumeError(
        f"process pods cannot use volumes of the kind {unknown} (they can use {', '.join(KNOWN)})"
    )


def files_of(
    pod: Mapping[str, Any], volume: Mapping[str, Any], sources: Sources, tokens: Mapping[str, str]
) -> list[File] | Elsewhere:
    """The files of a volume, or where they are already. Raises VolumeError.

    `tokens` are the service account tokens of projected volumes, by "audience expiry".
    """
    kind = kind_of(volume)
    if kind in ("emptyDir", "hostPath"):
        return []
    claim = claim_of(pod, volume)
    if claim is not None:
        return _claimed(claim, sources)
    source = volume[kind] or {}
    mode = source.get("defaultMode", _DEFAULT_MODE)
    parts = source.get("sources") or () if kind == "projected" else ({kind: source},)
    files: list[File] = []
    for part in parts:
        files += _part(pod, part, sources, tokens, mode)
    for file in files:
        _check_path(file.path)
    return files


def claim_of(pod: Mapping[str, Any], volume: Mapping[str, Any]) -> str | None:
    """The name of the claim behind a volume, if there is one."""
    if "ephemeral" in volume:
        return f"{pod['metadata']['name']}-{volume['name']}"
    return str(volume["persistentVolumeClaim"]["claimName"]) if "persistentVolumeClaim" in volume else None


def _claimed(claim: str, sources: Sources) -> Elsewhere:
    spec = sources.claims.get(claim)
    if spec is None:
        raise VolumeError(f'the PersistentVolumeClaim "{claim}" is not there, or not bound to a volume')
    if "hostPath" in spec:
        return _host_path(spec["hostPath"])
    if "local" in spec:
        return Elsewhere(Path(spec["local"]["path"]), "Directory")
    raise VolumeError(
        f'process pods cannot use the volume of the claim "{claim}": it is neither hostPath nor local'
    )


def _host_path(source: Mapping[str, Any]) -> Elsewhere:
    return Elsewhere(Path(source["path"]), source.get("type") or "")


def write(directory: Path, volume: Mapping[str, Any], files: Iterable[File] | Elsewhere) -> None:
    """Make a volume's folder with its files; what is elsewhere becomes a link."""
    if "hostPath" in volume:
        files = _host_path(volume["hostPath"])
    if isinstance(files, Elsewhere):
        if not directory.is_symlink():
            _check_host_path(files.path, files.kind)
            directory.symlink_to(files.path)
        return
    if "emptyDir" in volume:
        directory.mkdir(parents=True, exist_ok=True)
    else:
        payload.replace_files(directory, files)


def link_mounts(root: Path, container: Mapping[str, Any], volumes: Path) -> None:
    """Make the container's mounts reachable below its root."""
    mounts = sorted(container.get("volumeMounts") or (), key=lambda mount: str(mount["mountPath"]).count("/"))
    for mount in mounts:
        target = volumes / mount["name"]
        if sub := mount.get("subPath"):
            _check_path(sub)
            target = target / sub
            if not target.exists():
                target.mkdir(parents=True)
        place = root / str(mount["mountPath"]).strip("/")
        if place == root or os.path.lexists(place):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)


def token_key(projection: Mapping[str, Any]) -> str:
    """By what a projected service account token is found in `tokens`."""
    return f"{projection.get('audience') or ''} {projection.get('expirationSeconds') or 3600}"


def _part(
    pod: Mapping[str, Any],
    part: Mapping[str, Any],
    sources: Sources,
    tokens: Mapping[str, str],
    mode: int,
) -> list[File]:
    if (source := part.get("configMap")) is not None:
        return _keyed(source, source.get("name", ""), "configmap", sources.config_maps, mode)
    if (source := part.get("secret")) is not None:
        return _keyed(
            source, source.get("secretName") or source.get("name", ""), "secret", sources.secrets, mode
        )
    if (source := part.get("downwardAPI")) is not None:
        return [_field_file(pod, item, sources, mode) for item in source.get("items") or ()]
    if (source := part.get("serviceAccountToken")) is not None:
        token = tokens.get(token_key(source))
        if token is None:
            raise VolumeError("no token could be had for the pod's service account")
        return [File(source["path"], token.encode(), 0o600)]
    raise VolumeError(f"process pods cannot use the projected source {next(iter(part), '(none)')}")


def _keyed(
    source: Mapping[str, Any], name: str, kind: str, objects: Mapping[str, Mapping[str, Any]], mode: int
) -> list[File]:
    held = objects.get(name)
    if held is None:
        if source.get("optional"):
            return []
        raise VolumeError(f'{kind} "{name}" not found')
    items = source.get("items")
    if not items:
        return [File(key, _bytes(value), mode) for key, value in sorted(held.items())]
    files = []
    for item in items:
        if item["key"] in held:
            files.append(File(item["path"], _bytes(held[item["key"]]), item.get("mode", mode)))
        elif not source.get("optional"):
            raise VolumeError(f"{kind} references non-existent config key: {item['key']}")
    return files


def _field_file(pod: Mapping[str, Any], item: Mapping[str, Any], sources: Sources, mode: int) -> File:
    try:
        if chosen := item.get("fieldRef"):
            value = field_value(
                dict(pod), chosen["fieldPath"], pod_ip=sources.pod_ip, host_ip=sources.host_ip
            )
        else:
            chosen = item.get("resourceFieldRef") or {}
            containers = {one["name"]: one for one in pod.get("spec", {}).get("containers") or ()}
            container = dict(containers.get(chosen.get("containerName"), {}))
            value = resource_value(container, chosen, dict(sources.allocatable))
    except FieldError as error:
        raise VolumeError(str(error)) from None
    return File(item["path"], value.encode(), item.get("mode", mode))


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _check_path(path: str) -> None:
    if os.path.isabs(path) or ".." in Path(path).parts or not path:
        raise VolumeError(f"the path {path!r} leaves the volume")


def _check_host_path(path: Path, kind: str) -> None:
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch(exist_ok=True)
    checks = {"Directory": path.is_dir, "File": path.is_file, "Socket": path.is_socket}
    if kind in checks and not checks[kind]():
        raise VolumeError(f"hostPath type check failed: {path} is not a {kind.lower()}")
