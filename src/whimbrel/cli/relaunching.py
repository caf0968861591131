"""`whim launch --from-history`: the task of a past launch, as far as it was kept, with the options over it.

Values of secrets are kept nowhere, so that they are asked for by name. Files are launched as the server has them; what
it has not any more is said, and a new `--workdir` takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from whimbrel.cli.task_options import overrides_of
from whimbrel.client import sdk
from whimbrel.model.errors import InvalidTask

if TYPE_CHECKING:
    from whimbrel.model.task import Task


def relaunch(reference: str, entrypoint: Sequence[str], given: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
    """The task, and what is known of the past launch; its `files` are None when the task's own are to be sent.

    Raises:
        InvalidTask: secrets are missing, or files that are not kept any more.
        NotFound: nothing of that name is known.
    """
    from whimbrel.model.yamltask import from_wire, override

    if entrypoint:
        raise click.UsageError("--from-history launches what was launched before; it takes no other task.")
    past = sdk.history(reference)
    task = override(from_wire(past["task"]), overrides_of(given, run=None))
    again = f"whim launch --from-history {reference}"
    missing = [name for name in past["secret_names"] if name not in task.secrets]
    if missing:
        options = " ".join(f"--secret {name}" for name in missing)
        raise InvalidTask(
            f"The values of its secrets are not kept; {', '.join(missing)} must be given again.",
            remedy=f"{again} {options}   # NAME alone takes the value from your environment",
        )
    return task, {**past, "files": _files(past, task, given["workdir"], again)}


def _files(past: dict[str, Any], task: Task, new_workdir: str | None, again: str) -> dict[str, Any] | None:
    """The manifests to launch with."""
    lost = [where for where in past["lost"] if where != "workdir" or new_workdir is None]
    if lost:
        what = ", ".join("its workdir" if where == "workdir" else f"the file mount {where}" for where in lost)
        mend = (
            f"{again} --workdir DIR   # it was {task.workdir}"
            if lost == ["workdir"]
            else "launch it from its YAML file, which sends the files again"
        )
        raise InvalidTask(f"The server does not keep {what} of {past['name']} any more.", remedy=mend)
    if new_workdir is None:
        return {"workdir": past["workdir"], "mounts": past["mounts"]}
    sent = sdk.upload_workdir(new_workdir if task.workdir is None else task.workdir)
    return {"workdir": sent, "mounts": past["mounts"]}
