"""Walk the tree of a task and check each field: what it may be, and what it was instead.

This is the half of `yamltask` that is the same for a file and for what came over the wire. It fills a `Draft`: what
the text says, before options, variables and paths are put in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from whimbrel.model import amounts, taskfields
from whimbrel.model.amounts import ENV_NAME, Refused
from whimbrel.model.config import KubernetesConfig
from whimbrel.model.configreader import ConfigReader
from whimbrel.model.labels import label_problem
from whimbrel.model.names import MOST_NODES
from whimbrel.model.task import Accelerators, Resources, VolumeMount
from whimbrel.model.volume import VolumeReader
from whimbrel.model.walking import Walker, describe, kind_of, unusable
from whimbrel.model.yamltree import Branch, Fields, Leaf, Tree

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Draft:
    """What the text says, before options, variables and paths."""

    name: str | None = None
    workdir: Leaf | None = None
    num_nodes: int = 1
    resources: Resources = field(default_factory=Resources)
    envs: dict[str, Leaf] = field(default_factory=dict)
    secrets: dict[str, Leaf] = field(default_factory=dict)
    file_mounts: list[tuple[Leaf, Leaf]] = field(default_factory=list)
    volumes: dict[str, VolumeMount] = field(default_factory=dict)
    config: KubernetesConfig = field(default_factory=KubernetesConfig)
    setup: str | None = None
    run: str | None = None

    def check_wire(self, reader: Reader) -> None:
        """What only a client that is not `whim` would send."""
        for variables, section in ((self.envs, "envs"), (self.secrets, "secrets")):
            for name, leaf in variables.items():
                if leaf.value is None:
                    reader.add(leaf.spot, f"{section}.{name}", f"'{section}.{name}' has no value")
        paths = [(f"file_mounts.{target.text}", leaf) for target, leaf in self.file_mounts]
        if self.workdir is not None:
            paths.append(("workdir", self.workdir))
        for where, leaf in paths:
            if not leaf.text.startswith("/"):
                reader.add(leaf.spot, where, f"'{where}' must be an absolute path of the client")


class Reader(Walker):
    """Walks the tree of a task."""

    def task(self, root: Tree) -> Draft:
        draft = Draft()
        found = self._known(root, "", taskfields.TASK, taskfields.SKYPILOT_TASK)
        draft.name = self._name(found.get("name"))
        draft.workdir = self._workdir(found.get("workdir"))
        draft.num_nodes = self._num_nodes(found.get("num_nodes"))
        draft.resources = self._resources(found.get("resources"))
        draft.envs = self._variables(found.get("envs"), "envs")
        draft.secrets = self._variables(found.get("secrets"), "secrets")
        for name in draft.envs.keys() & draft.secrets.keys():
            self.add(
                draft.secrets[name].spot, f"secrets.{name}", f"'{name}' is in 'envs' too", "keep one of them"
            )
        draft.file_mounts = self._file_mounts(found.get("file_mounts"))
        draft.volumes = self._volumes(found.get("volumes"))
        draft.config = self._config(found.get("config"), found.get("experimental"))
        draft.setup = self.text(found.get("setup"), "setup", "text (a shell script)")
        draft.run = self.text(found.get("run"), "run", "text (a shell script)")
        return draft

    def _known(
        self, tree: Tree, where: str, known: tuple[str, ...], skypilot: Mapping[str, str]
    ) -> dict[str, Tree]:
        elsewhere: dict[str, tuple[str, ...]] = (
            {"at the top of the task": taskfields.TASK}
            if where
            else {"under 'resources'": (*taskfields.RESOURCES, *taskfields.SKYPILOT_RESOURCES)}
        )
        return self.known(tree, where, known, skypilot, elsewhere, "a task")

    def _name(self, tree: Tree | None) -> str | None:
        name = self.text(tree, "name")
        if name is None or tree is None:
            return None
        if not name.strip() or len(name) > 128 or not name.isprintable():
            self.add(tree.spot, "name", "'name' must be one line of 1 to 128 printable characters")
        return name

    def _workdir(self, tree: Tree | None) -> Leaf | None:
        if isinstance(tree, Fields):
            self.add(
                tree.spot, "workdir", taskfields.feature("a git repository as 'workdir'"), "give a directory"
            )
            return None
        text = self.text(tree, "workdir", "the path of a directory")
        if text is None or not isinstance(tree, Leaf):
            return None
        if not text.strip():
            self.add(tree.spot, "workdir", "'workdir' is empty", "'.' is the current directory")
            return None
        return tree

    def _num_nodes(self, tree: Tree | None) -> int:
        if tree is None:
            return 1
        value = tree.value if isinstance(tree, Leaf) else None
        if isinstance(value, bool) or not isinstance(value, int):
            quoted = isinstance(value, str) and value.strip().isdigit()
            hint = "write it without quotes" if quoted else ""
            self.add(
                tree.spot, "num_nodes", f"'num_nodes' must be a whole number, found {describe(tree)}", hint
            )
            return 1
        if not 1 <= value <= MOST_NODES:
            self.add(tree.spot, "num_nodes", f"'num_nodes' must be between 1 and {MOST_NODES}, found {value}")
            return 1
        return value

    def _resources(self, tree: Tree | None) -> Resources:
        if tree is None:
            return Resources()
        found = self._known(tree, "resources", taskfields.RESOURCES, taskfields.SKYPILOT_RESOURCES)
        return Resources(
            cpus=self._amount(found.get("cpus"), "resources.cpus", amounts.cpus, "a number of CPUs"),
            memory=self._amount(
                found.get("memory"), "resources.memory", amounts.memory, "an amount of memory"
            ),
            accelerators=self._accelerators(found.get("accelerators")),
            infra=self._small(found.get("infra"), "resources.infra", amounts.infra, "the name of an infra"),
            image=self._image(found.get("image_id")),
            ports=self._ports(found.get("ports")),
            labels=self.texts(found.get("labels"), "resources.labels", label_problem),
            use_spot=self.truth(found.get("use_spot"), "resources.use_spot"),
            disk_gib=self._amount(
                found.get("disk_size"), "resources.disk_size", amounts.disk, "a size of a disk"
            ),
            priority_class=self.text(found.get("priority_class"), "resources.priority_class", "a name"),
        )

    def _image(self, tree: Tree | None) -> str | None:
        if isinstance(tree, Fields):
            what = taskfields.feature("an image for each region")
            self.add(tree.spot, "resources.image_id", what, "write docker:IMAGE")
            return None
        return self._small(tree, "resources.image_id", amounts.image, "docker:IMAGE")

    def _ports(self, tree: Tree | None) -> tuple[int, ...]:
        """A port, a range, or a list of those. Nothing is asked of anybody."""
        where, found = "resources.ports", dict[int, None]()
        items = tree.items if isinstance(tree, Branch) else () if tree is None else (tree,)
        for item in items:
            text = Leaf(item.text, item.text, item.spot) if isinstance(item, Leaf) and _whole(item) else item
            found |= dict.fromkeys(
                self._small(text, where, amounts.ports, "a port, like 8080 or 8000-8010") or ()
            )
        if len(found) > amounts.MOST_PORTS and tree is not None:
            self.add(
                tree.spot, where, f"'{where}' has {len(found)} ports", f"open {amounts.MOST_PORTS} at most"
            )
        return tuple(found)

    def _volumes(self, tree: Tree | None) -> dict[str, VolumeMount]:
        reader = VolumeReader(self.file, wire=self.wire)
        found = reader.mounts(tree)
        self.problems += reader.problems
        return found

    def _config(self, tree: Tree | None, experimental: Tree | None) -> KubernetesConfig:
        """`config`, and the name that SkyPilot had for it before: `experimental.config_overrides`."""
        reader = ConfigReader(self.file, wire=self.wire)
        config = KubernetesConfig()
        if experimental is not None:
            inner = reader.known(experimental, "experimental", ("config_overrides",), {}, {}, "")
            if "config_overrides" in inner:
                config = reader.of_task(inner["config_overrides"], "experimental.config_overrides")
        if tree is not None:
            config = reader.of_task(tree, "config").over(config)
        self.problems += reader.problems
        return config

    def _amount(self, tree: Tree | None, where: str, read: Callable[[str], T], expected: str) -> T | None:
        """A number, or a text like `4+`."""
        if (
            isinstance(tree, Leaf)
            and isinstance(tree.value, int | float)
            and not isinstance(tree.value, bool)
        ):
            if not math.isfinite(tree.value) or abs(tree.value) >= 1e15:
                self.add(tree.spot, where, f"'{where}' must be {expected}, found {describe(tree)}")
                return None
            plain = f"{tree.value:.6f}".rstrip("0").rstrip(".")
            return self._small(Leaf(plain, plain, tree.spot), where, read, expected)
        return self._small(tree, where, read, expected)

    def _small(self, tree: Tree | None, where: str, read: Callable[[str], T], expected: str) -> T | None:
        """A text in one of the small languages of `amounts`."""
        if tree is None:
            return None
        if not isinstance(tree, Leaf) or not isinstance(tree.value, str):
            self.add(tree.spot, where, f"'{where}' must be {expected}, found {describe(tree)}")
            return None
        try:
            return read(tree.value)
        except Refused as error:
            self.add(tree.spot, where, f"'{where}': {error.message}", error.hint)
            return None

    def _accelerators(self, tree: Tree | None) -> Accelerators | None:
        where = "resources.accelerators"
        if isinstance(tree, Fields | Branch) and len(tree.items) > 1:
            self.add(tree.spot, where, taskfields.feature("a choice of accelerators"), "choose one")
            return None
        if isinstance(tree, Branch) and tree.items:
            tree = tree.items[0]
        elif isinstance(tree, Fields) and tree.items:
            key, value = tree.items[0]
            count = value.text if isinstance(value, Leaf) else "?"
            tree = Leaf(f"{key.text}:{count}" if count else key.text, key.text, key.spot)
        return self._small(tree, where, amounts.accelerators, "an accelerator like H100:8")

    def _variables(self, tree: Tree | None, section: str) -> dict[str, Leaf]:
        if tree is None:
            return {}
        if isinstance(tree, Branch) and section == "secrets":
            self.add(
                tree.spot,
                section,
                taskfields.feature("'secrets' as a list of references"),
                "list names, `NAME:`",
            )
            return {}
        if not isinstance(tree, Fields):
            self.add(
                tree.spot, section, f"'{section}' must be a mapping of names to values, found {kind_of(tree)}"
            )
            return {}
        found: dict[str, Leaf] = {}
        for key, value in tree.items:
            where = f"{section}.{key.text}"
            if not ENV_NAME.fullmatch(key.text):
                self.add(
                    key.spot,
                    where,
                    f"'{key.text}' is not the name of a variable",
                    "use letters, digits and '_'",
                )
            elif key.text.startswith("WHIMBREL_"):
                self.add(
                    key.spot,
                    where,
                    f"'{key.text}' is a name that whimbrel sets itself",
                    "choose another name",
                )
            elif key.text.startswith("SKYPILOT_DOCKER_"):
                self.add(key.spot, where, taskfields.feature(f"the registry login '{key.text}'"))
            elif not isinstance(value, Leaf):
                self.add(
                    value.spot, where, f"'{where}' must be text, found {kind_of(value)}", "quote JSON values"
                )
            elif self.wire and not isinstance(value.value, str | None):
                self.add(value.spot, where, f"'{where}' must be text, found {kind_of(value)}")
            elif problem := unusable(value.text):
                self.add(value.spot, where, f"'{where}' {problem}")
            else:
                found[key.text] = value
        return found

    def _file_mounts(self, tree: Tree | None) -> list[tuple[Leaf, Leaf]]:
        if tree is None:
            return []
        if not isinstance(tree, Fields):
            expected = "a mapping of paths on the node to paths on this machine"
            self.add(tree.spot, "file_mounts", f"'file_mounts' must be {expected}, found {describe(tree)}")
            return []
        found: list[tuple[Leaf, Leaf]] = []
        for key, value in tree.items:
            where = f"file_mounts.{key.text}"
            if isinstance(value, Fields):
                self.add(
                    value.spot,
                    where,
                    taskfields.feature("a storage mount"),
                    "mount a local file or directory",
                )
                continue
            source = self.text(value, where, "a path on this machine")
            if not isinstance(value, Leaf) or value.value is None or source is None:
                continue
            if re.match(r"[a-z][a-z0-9+.-]*://", source):
                self.add(
                    value.spot,
                    where,
                    taskfields.feature(f"mounting '{source}'"),
                    "mount a local file or directory",
                )
            elif not key.text.strip("/ ") or ".." in key.text.split("/") or not key.text.isprintable():
                self.add(
                    key.spot,
                    where,
                    f"'{key.text}' cannot be a path on the node",
                    "'..' and '/' are not possible",
                )
            elif not source.strip() or "\0" in source:
                self.add(value.spot, where, f"'{where}' is empty")
            else:
                found.append((key, value))
        return found


def _whole(leaf: Leaf) -> bool:
    return isinstance(leaf.value, int) and not isinstance(leaf.value, bool)
