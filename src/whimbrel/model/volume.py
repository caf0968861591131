"""Volumes: what a volume's YAML says, and what stands under `volumes` of a task, read with the place of each mistake.

    name: datasets
    type: k8s-pvc
    infra: k8s/my-context
    size: 100Gi
    config: {access_mode: ReadWriteMany, storage_class_name: nfs}

The format is SkyPilot's. Other types of volumes (host paths, other clouds' disks) are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whimbrel.model import amounts
from whimbrel.model.amounts import Refused
from whimbrel.model.errors import InvalidTask
from whimbrel.model.labels import dns_problem, label_problem
from whimbrel.model.problems import Problem, refuse
from whimbrel.model.task import VolumeMount
from whimbrel.model.walking import Walker, describe
from whimbrel.model.yamltree import Fields, Leaf, Spot, Tree, Unreadable, of_json, parse

TYPE = "k8s-pvc"
ACCESS_MODES = ("ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany")
LARGEST_FILE = 1024 * 1024
LONGEST_NAME = 50

_FIELDS = ("name", "type", "infra", "size", "use_existing", "config", "labels")
_CONFIG = ("access_mode", "storage_class_name", "namespace")
_NOT_YET: Mapping[str, str] = {"host_path": "", "cleanup_on_deletion": ""}
_MOUNT = ("name", "sub_path", "type", "size", "config")
_OTHER_TYPES = ("k8s-hostpath", "runpod-network-volume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume that outlives clusters, as it is asked for."""

    name: str
    infra: str | None = None  # `k8s/CONTEXT`; None: the current one
    size_gib: float | None = None
    use_existing: bool = False  # the claim of that name is there and stays there
    access_mode: str = ACCESS_MODES[0]
    storage_class: str | None = None
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """As it stands in a file."""
        return {
            "name": self.name,
            "type": TYPE,
            "infra": self.infra,
            "size": f"{self.size_gib:g}Gi" if self.size_gib else None,
            "use_existing": self.use_existing,
            "config": {
                "access_mode": self.access_mode,
                "storage_class_name": self.storage_class,
                "namespace": self.namespace,
            },
            "labels": dict(self.labels),
        }


def load_volume(path: Path, overrides: Mapping[str, Any]) -> Volume:
    """The volume in a file, with what the command line says over it.

    Raises:
        InvalidTask: with each problem, its file, line and column.
    """
    shown = str(path)
    try:
        text = path.read_bytes()[: LARGEST_FILE + 1].decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise refuse([Problem(file=shown, message=f"cannot be read: {why}")]) from None
    try:
        trees, problems = parse(text, shown)
    except Unreadable as error:
        raise refuse([error.problem]) from None
    reader = VolumeReader(shown)
    reader.problems += problems
    return reader.finish(trees[0] if trees else Fields(()), overrides)


def volume_of(wire: object) -> Volume:
    """A volume from options alone, or as a client sent it."""
    try:
        return VolumeReader("volume").finish(of_json(wire), {})
    except Unreadable as error:
        raise refuse([error.problem]) from None


class VolumeReader(Walker):
    """Walks the tree of a volume, or of the `volumes` of a task."""

    def finish(self, tree: Tree, overrides: Mapping[str, Any]) -> Volume:
        """The volume, or the error that tells everything that is wrong."""
        if isinstance(tree, Fields):
            given = {key: value for key, value in overrides.items() if value is not None}
            kept = [item for item in tree.items if item[0].text not in given]
            options = [(Leaf(key, key), of_json(value)) for key, value in given.items()]
            tree = Fields((*kept, *options), tree.spot)
        volume = self._volume(tree)
        if self.problems or volume is None:
            raise refuse(self.problems)
        return volume

    def mounts(self, tree: Tree | None) -> dict[str, VolumeMount]:
        """The `volumes` of a task."""
        if tree is None:
            return {}
        if not isinstance(tree, Fields):
            expected = "a mapping of paths on the node to volumes"
            self.add(tree.spot, "volumes", f"'volumes' must be {expected}, found {describe(tree)}")
            return {}
        found = {}
        for key, value in tree.items:
            where = f"volumes.{key.text}"
            parts = key.text.split("/")
            if not key.text.startswith("/") or ".." in parts or not key.text.strip("/") or ":" in key.text:
                hint = "give an absolute path, for example /mnt/data"
                self.add(key.spot, where, f"'{key.text}' cannot be where a volume is mounted", hint)
                continue
            mount = self._mount(value, where)
            if mount is not None:
                found[key.text.rstrip("/")] = mount
        return found

    def _mount(self, tree: Tree, where: str) -> VolumeMount | None:
        if isinstance(tree, Leaf):
            name = self.text(tree, where, "the name of a volume, or `size: ...` for a new one")
            return VolumeMount(name=name) if name and self._named(name, tree.spot, where) else None
        found = self.known(tree, where, _MOUNT, _NOT_YET, {}, "")
        named, size = found.get("name"), found.get("size")
        if (named is None) == (size is None):
            self.add(tree.spot, where, f"'{where}' needs either a 'name' or a 'size'")
            return None
        if named is not None:
            for field_ in ("size", "config"):
                if field_ in found:
                    self.add(
                        found[field_].spot, where, f"'{where}.{field_}' is not for a volume that has a name"
                    )
            text = self.text(named, f"{where}.name", "the name of a volume")
            if text is None or not self._named(text, named.spot, f"{where}.name"):
                return None
            return VolumeMount(name=text, sub_path=self._sub_path(found.get("sub_path"), f"{where}.sub_path"))
        self._type(found.get("type"), f"{where}.type")
        config = self._config(found.get("config"), f"{where}.config")
        return VolumeMount(
            size_gib=self._size(size, f"{where}.size"),
            storage_class=config.get("storage_class_name"),
            access_mode=config.get("access_mode"),
        )

    def _volume(self, tree: Tree) -> Volume | None:
        elsewhere = {"under 'config'": _CONFIG}
        found = self.known(tree, "", _FIELDS, {}, elsewhere, "a volume")
        name = self.text(found.get("name"), "name", "a name")
        if name is None:
            if "name" not in found:
                self.add(tree.spot, "name", "a volume needs a 'name'")
            return None
        self._named(name, found["name"].spot, "name")
        self._type(found.get("type"), "type")
        size = self._size(found.get("size"), "size")
        existing = self.truth(found.get("use_existing"), "use_existing") or False
        if size is None and "size" not in found and not existing:
            self.add(
                tree.spot,
                "size",
                "a volume needs a 'size'",
                "or `use_existing: true` for a claim that is there",
            )
        config = self._config(found.get("config"), "config")
        return Volume(
            name=name,
            infra=self._infra(found.get("infra")),
            size_gib=size,
            use_existing=existing,
            access_mode=config.get("access_mode") or ACCESS_MODES[0],
            storage_class=config.get("storage_class_name"),
            namespace=config.get("namespace"),
            labels=self.texts(found.get("labels"), "labels", label_problem),
        )

    def _named(self, name: str, spot: Spot, where: str) -> bool:
        problem = dns_problem(name) or (
            f"is longer than {LONGEST_NAME} characters" if len(name) > LONGEST_NAME else ""
        )
        if problem:
            self.add(spot, where, f"'{where}' {problem}")
        return not problem

    def _type(self, tree: Tree | None, where: str) -> None:
        text = self.text(tree, where, TYPE)
        if tree is None or text in (None, TYPE):
            return
        hint = f"{text} cannot be honoured yet" if text in _OTHER_TYPES else f"write {TYPE}"
        self.add(tree.spot, where, f"'{where}' must be {TYPE}, found '{text}'", hint)

    def _size(self, tree: Tree | None, where: str) -> float | None:
        if tree is None:
            return None
        if not isinstance(tree, Leaf) or isinstance(tree.value, bool) or tree.value is None:
            self.add(
                tree.spot, where, f"'{where}' must be a size, found {describe(tree)}", "for example 100Gi"
            )
            return None
        try:
            return amounts.disk(tree.text)
        except Refused as error:
            self.add(tree.spot, where, f"'{where}': {error.message}", error.hint)
            return None

    def _config(self, tree: Tree | None, where: str) -> dict[str, str]:
        if tree is None:
            return {}
        found = self.known(tree, where, _CONFIG, _NOT_YET, {}, "")
        texts = {name: self.text(value, f"{where}.{name}") for name, value in found.items()}
        mode = texts.get("access_mode")
        if mode is not None and mode not in ACCESS_MODES:
            self.add(
                found["access_mode"].spot,
                f"{where}.access_mode",
                f"'{where}.access_mode' cannot be '{mode}'",
                f"write {', '.join(ACCESS_MODES)}",
            )
        return {name: text for name, text in texts.items() if text}

    def _infra(self, tree: Tree | None) -> str | None:
        text = self.text(tree, "infra", "the name of an infra")
        if text is None or tree is None:
            return None
        try:
            return amounts.infra(text)
        except Refused as error:
            self.add(tree.spot, "infra", f"'infra': {error.message}", error.hint)
            return None

    def _sub_path(self, tree: Tree | None, where: str) -> str | None:
        text = self.text(tree, where, "a path inside of the volume")
        if text is None or tree is None:
            return None
        if text.startswith("/") or ".." in text.split("/") or not text.strip():
            self.add(tree.spot, where, f"'{where}' must be a path inside of the volume, found '{text}'")
            return None
        return text


__all__ = ["ACCESS_MODES", "InvalidTask", "Volume", "VolumeReader", "load_volume", "volume_of"]
