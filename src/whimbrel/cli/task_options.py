"""The options that describe or override a task, shared by `launch` and `exec`, with SkyPilot's names.

They become one `Overrides`; what it means to override is `whimbrel.model.yamltask`'s business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from whimbrel.model.errors import InvalidTask

if TYPE_CHECKING:
    from whimbrel.model.task import Task
    from whimbrel.model.yamltask import Overrides

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = [
    click.option("-n", "--name", help="Name of the task."),
    click.option(
        "--workdir", type=click.Path(), help="Directory that is copied to every node; the task runs in it."
    ),
    click.option("--infra", help="Where to run: local, k8s, or k8s/CONTEXT."),
    click.option("--num-nodes", type=int, help="How many nodes."),
    click.option("--cpus", help="CPUs of each node: 4, or 4+ for at least 4."),
    click.option("--memory", help="Memory of each node in GB: 16, or 16+."),
    click.option("--gpus", help="Accelerators of each node: H100:8."),
    click.option(
        "--image-id", metavar="docker:IMAGE", help="Image of the nodes; any that has a POSIX shell."
    ),
    click.option("--ports", multiple=True, help="Port of the first node to open: 8080, or 8000-8010."),
    click.option(
        "--use-spot/--no-use-spot", "use_spot", default=None, help="Only machines that may be taken away."
    ),
    click.option("--disk-size", help="Disk of each node in GB."),
    click.option(
        "--env", "envs", multiple=True, metavar="K=V|K", help="Environment variable; K alone copies yours."
    ),
    click.option("--env-file", type=click.Path(), help="File of K=V lines; loses to --env."),
    click.option(
        "--secret", "secrets", multiple=True, metavar="K=V|K", help="Like --env, and shown nowhere."
    ),
]


def task_options(command: _Command) -> _Command:
    """Add the options to a command; their values arrive as keyword arguments for `read_task`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_task(entrypoint: Sequence[str], given: dict[str, Any]) -> Task:
    """The task of a YAML file, or of a command typed in place, with the options applied.

    Raises:
        InvalidTask: with every error of the file, each at its position.
    """
    from whimbrel.model.yamltask import load_task

    from_file = len(entrypoint) == 1 and _is_yaml_path(entrypoint[0])
    overrides = overrides_of(given, run=None if from_file else " ".join(entrypoint) or None)
    return load_task(Path(entrypoint[0]) if from_file else None, overrides=overrides)


def overrides_of(given: dict[str, Any], *, run: str | None) -> Overrides:
    """What the options say, beside a file or a past launch."""
    from whimbrel.model.yamltask import Overrides

    return Overrides(
        name=given["name"],
        workdir=given["workdir"],
        infra=given["infra"],
        num_nodes=given["num_nodes"],
        cpus=given["cpus"],
        memory=given["memory"],
        gpus=given["gpus"],
        image=given["image_id"],
        ports=given["ports"],
        use_spot=given["use_spot"],
        disk_size=given["disk_size"],
        run=run,
        envs=_env_file(given["env_file"]) | _pairs("--env", given["envs"]),
        secrets=_pairs("--secret", given["secrets"]),
    )


def _is_yaml_path(text: str) -> bool:
    return text.endswith((".yaml", ".yml")) or (Path(text).is_file() and " " not in text)


def _pairs(option: str, values: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        name, equals, content = value.partition("=")
        if not equals:
            if name not in os.environ:
                raise InvalidTask(
                    f"{option} {name}: your environment has no variable {name}.",
                    remedy=f"{option} {name}=VALUE",
                )
            content = os.environ[name]
        found[name] = content
    return found


def _env_file(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidTask(f"The env file {path} cannot be read: {error}.") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidTask(f"{path}:{number}: expected NAME=VALUE.")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    return found
