"""From task YAML (and the options of a command) to a checked `Task`; every mistake is told at once, with its place.

    task.yaml:7:3: unknown field 'resource'; did you mean 'resources'?
    task.yaml:9:9: 'num_nodes' must be a whole number, found the text '2'; write it without quotes

Nothing is ignored: a field of SkyPilot's that cannot be honoured yet is refused by name. `from_wire` reads what
`Task.to_wire` wrote, from a client that is not trusted, through the same checks. The only input is the file itself
and whether the paths that it names exist; pydantic is not needed, so that the command line starts fast.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from whimbrel.model import amounts, taskfields
from whimbrel.model.amounts import Refused
from whimbrel.model.errors import InvalidTask
from whimbrel.model.names import MOST_NODES
from whimbrel.model.problems import Problem, refuse
from whimbrel.model.task import Resources, Task
from whimbrel.model.taskreader import Draft, Reader
from whimbrel.model.yamltree import Fields, Leaf, Spot, Tree, Unreadable, of_json, parse

T = TypeVar("T")

LARGEST_FILE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the command line says beside the file; None leaves the file's word."""

    name: str | None = None
    workdir: str | None = None
    num_nodes: int | None = None
    cpus: str | None = None
    memory: str | None = None
    gpus: str | None = None  # "H100:8"
    infra: str | None = None
    image: str | None = None  # "docker:IMAGE"; "none" takes the file's away
    ports: tuple[str, ...] = ()
    use_spot: bool | None = None
    disk_size: str | None = None
    run: str | None = None  # an inline command
    envs: Mapping[str, str | None] = field(
        default_factory=dict
    )  # None: take it from the caller's environment
    secrets: Mapping[str, str | None] = field(default_factory=dict, repr=False)


def load_task(
    source: Path | str | None,
    *,
    overrides: Overrides = Overrides(),  # frozen
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Task:
    """The task in a file, or in YAML text, or (None) made of options alone.

    A string without a line break that ends in .yaml or .yml is a path. Relative paths in the task are relative to
    `cwd`, as in SkyPilot. Raises `InvalidTask`, whose details list each problem with file, line and column.
    """
    where = Path.cwd() if cwd is None else cwd
    if isinstance(source, str) and "\n" not in source and source.endswith((".yaml", ".yml")):
        source = Path(source)
    reader = Reader(str(source) if isinstance(source, Path) else "task")
    root: Tree = Fields(())
    if isinstance(source, Path):
        root = _document(reader, _read(where / source, reader.file))
    elif source is not None:
        root = _document(reader, source)
    draft = reader.task(root)
    finisher = _Finisher(reader, os.environ if env is None else env, where)
    task = finisher.complete(draft, overrides)
    if reader.problems:
        raise refuse(reader.problems)
    return task


def from_wire(wire: object) -> Task:
    """The task that a client sent; paths must be absolute, every variable must have its value."""
    reader = Reader("task", wire=True)
    try:
        root = of_json(wire)
    except Unreadable as error:
        raise refuse([error.problem]) from None
    draft = reader.task(root)
    draft.check_wire(reader)
    if reader.problems:
        raise refuse(reader.problems)
    return Task(
        name=draft.name,
        workdir=draft.workdir.text if draft.workdir else None,
        num_nodes=draft.num_nodes,
        resources=draft.resources,
        envs={name: leaf.text for name, leaf in draft.envs.items()},
        secrets={name: leaf.text for name, leaf in draft.secrets.items()},
        file_mounts={target.text: leaf.text for target, leaf in draft.file_mounts},
        volumes=draft.volumes,
        config=draft.config,
        setup=draft.setup,
        run=draft.run,
    )


def override(
    task: Task, over: Overrides, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Task:
    """A task that was checked before, with options over it. Its own paths are not looked at: they may be those of
    another day."""
    reader = Reader("the options")
    finisher = _Finisher(reader, os.environ if env is None else env, cwd or Path.cwd())
    changed = finisher.over(task, over)
    if reader.problems:
        raise refuse(reader.problems)
    return changed


def _read(path: Path, shown: str) -> str:
    try:
        data = path.read_bytes() if path.stat().st_size <= LARGEST_FILE else None
    except FileNotFoundError:
        raise refuse([Problem(file=shown, message="there is no such file")]) from None
    except OSError as error:
        raise refuse([Problem(file=shown, message=f"cannot be read: {error.strerror}")]) from None
    if data is None:
        raise refuse([Problem(file=shown, message="is larger than 4 MiB, which no task is")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise refuse(
            [
                Problem(
                    file=shown, line=line, column=column, message="is not UTF-8 text", hint="save it as UTF-8"
                )
            ]
        ) from None


def _document(reader: Reader, text: str) -> Tree:
    try:
        trees, problems = parse(text, reader.file)
    except Unreadable as error:
        raise refuse([error.problem]) from None
    reader.problems += problems
    if not trees:
        raise refuse([Problem(file=reader.file, line=1, column=1, message="the file is empty")])
    if len(trees) > 1:
        several = taskfields.feature("a file of several documents (a pipeline or job group)")
        reader.add(trees[1].spot, "", several, "launch each from a file of its own")
    return trees[0]


class _Finisher:
    """Options over the file, values for variables, absolute paths that exist."""

    def __init__(self, reader: Reader, env: Mapping[str, str], cwd: Path) -> None:
        self.reader = reader
        self.env = env
        self.cwd = cwd

    def complete(self, draft: Draft, over: Overrides) -> Task:
        envs = self._values(draft.envs, over.envs, "envs", "--env", draft.secrets)
        secrets = self._values(draft.secrets, over.secrets, "secrets", "--secret", draft.envs)
        given = self._option(over)
        resources = draft.resources
        workdir = draft.workdir
        if over.workdir is not None:
            workdir = Leaf(over.workdir, over.workdir)
        if over.num_nodes is not None and not 1 <= over.num_nodes <= MOST_NODES:
            self._refuse("--num-nodes", f"must be between 1 and {MOST_NODES}, found {over.num_nodes}")
        return Task(
            name=over.name if over.name is not None else draft.name,
            workdir=self._directory(workdir, envs, "--workdir" if over.workdir is not None else None),
            num_nodes=over.num_nodes if over.num_nodes is not None else draft.num_nodes,
            resources=replace(
                resources,
                cpus=given.cpus or resources.cpus,
                memory=given.memory or resources.memory,
                accelerators=given.accelerators or resources.accelerators,
                infra=given.infra or resources.infra,
                image=None if over.image == "none" else given.image or resources.image,
                ports=given.ports or resources.ports,
                use_spot=resources.use_spot if over.use_spot is None else over.use_spot,
                disk_gib=given.disk_gib or resources.disk_gib,
            ),
            envs=envs,
            secrets=secrets,
            file_mounts=self._mounts(draft.file_mounts, envs),
            volumes=draft.volumes,
            config=draft.config,
            setup=draft.setup,
            run=over.run if over.run is not None else draft.run,
        )

    def over(self, task: Task, over: Overrides) -> Task:
        given, resources = self._option(over), task.resources
        envs = {**task.envs, **self._values({}, over.envs, "envs", "--env", {})}
        if over.num_nodes is not None and not 1 <= over.num_nodes <= MOST_NODES:
            self._refuse("--num-nodes", f"must be between 1 and {MOST_NODES}, found {over.num_nodes}")
        workdir = task.workdir
        if over.workdir is not None:
            workdir = self._directory(Leaf(over.workdir, over.workdir), envs, "--workdir")
        return replace(
            task,
            name=task.name if over.name is None else over.name,
            workdir=workdir,
            num_nodes=task.num_nodes if over.num_nodes is None else over.num_nodes,
            resources=replace(
                resources,
                cpus=given.cpus or resources.cpus,
                memory=given.memory or resources.memory,
                accelerators=given.accelerators or resources.accelerators,
                infra=given.infra or resources.infra,
            ),
            envs=envs,
            secrets={**task.secrets, **self._values({}, over.secrets, "secrets", "--secret", {})},
            run=task.run if over.run is None else over.run,
        )

    def _refuse(self, option: str, message: str, hint: str = "") -> None:
        self.reader.add(Spot(), option, message, hint, file=option)

    def _option(self, over: Overrides) -> Resources:
        def read(option: str, text: str | None, parse_: Callable[[str], T]) -> T | None:
            if text is None:
                return None
            try:
                return parse_(text)
            except Refused as error:
                self._refuse(option, error.message, error.hint)
                return None

        return Resources(
            cpus=read("--cpus", over.cpus, amounts.cpus),
            memory=read("--memory", over.memory, amounts.memory),
            accelerators=read("--gpus", over.gpus, amounts.accelerators),
            infra=read("--infra", over.infra, amounts.infra),
            image=read("--image-id", None if over.image == "none" else over.image, amounts.image),
            ports=read("--ports", ",".join(over.ports) or None, amounts.ports) or (),
            disk_gib=read("--disk-size", over.disk_size, amounts.disk),
        )

    def _values(
        self,
        declared: Mapping[str, Leaf],
        given: Mapping[str, str | None],
        section: str,
        option: str,
        others: Mapping[str, Leaf],
    ) -> dict[str, str]:
        values = {name: leaf.text for name, leaf in declared.items() if leaf.value is not None}
        unset = set()
        for name, value in given.items():
            if name in others:
                other = "--secret" if option == "--env" else "--env"
                self._refuse(
                    option, f"'{name}' is not one of the task's '{section}'", f"use {other} {name}=..."
                )
            elif value is not None:
                values[name] = value
            elif name in self.env:
                values[name] = self.env[name]
            else:
                unset.add(name)
                self._refuse(
                    option, f"'{name}' is not set in your environment", f"give its value: {option} {name}=..."
                )
        for name, leaf in declared.items():
            if name not in values and name not in unset:
                what = "secret" if section == "secrets" else "variable"
                self.reader.add(
                    leaf.spot,
                    f"{section}.{name}",
                    f"the {what} '{name}' has no value",
                    f"give it with {option} {name}=... or, from your environment, {option} {name}",
                )
        return values

    def _directory(self, leaf: Leaf | None, envs: Mapping[str, str], option: str | None) -> str | None:
        if leaf is None:
            return None
        path, hint = self._path(leaf.text, envs)
        if os.path.isdir(path):
            return path
        problem = "is not a directory" if os.path.exists(path) else "does not exist"
        if option is not None:
            self._refuse(option, f"{path} {problem}", hint)
        else:
            self.reader.add(leaf.spot, "workdir", f"the workdir {path} {problem}", hint)
        return path

    def _mounts(self, mounts: list[tuple[Leaf, Leaf]], envs: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for key, value in mounts:
            target = substitute(key.text, envs)
            where = f"file_mounts.{target}"
            path, hint = self._path(value.text, envs)
            if target in found:
                self.reader.add(key.spot, where, f"'{target}' is mounted twice")
            if not os.path.exists(path):
                self.reader.add(value.spot, where, f"{path} does not exist", hint)
            found[target] = path
        return found

    def _path(self, text: str, envs: Mapping[str, str]) -> tuple[str, str]:
        """An absolute path, and a hint for the case that it does not exist."""
        filled = substitute(text, envs)
        home = self.env.get("HOME", "")
        if home and (filled == "~" or filled.startswith("~/")):
            filled = home + filled[1:]
        path = os.path.normpath(self.cwd / os.path.expanduser(filled))
        open_ = re.search(r"\$\{?(\w+)\}?", filled)
        if open_ is not None:
            return path, f"'{open_[1]}' has no value in the task's 'envs'"
        return path, "" if os.path.isabs(filled) else f"'{filled}' is looked for in the current directory"


def substitute(text: str, envs: Mapping[str, str]) -> str:
    """`${NAME}` and `$NAME` replaced by the task's variables; other names stay as they are."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: envs.get(match[1] or match[2], match[0]), text)


__all__ = ["InvalidTask", "Overrides", "from_wire", "load_task", "override", "substitute"]
