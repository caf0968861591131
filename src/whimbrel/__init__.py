"""Run AI and batch jobs on Kubernetes, SSH machines and clouds, and keep running when the infrastructure does not.

    import whimbrel as whim

    task = whim.Task(run="echo hello", num_nodes=2)
    output = whim.launch(task, "c1").result()
    for frame in whim.logs("c1", output["job_id"]):
        print(frame.get("text", ""), end="")
    whim.down("c1").result()

The verbs are those of the `whim` command; they are imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from whimbrel.client.sdk import (
        Request,
        api_info,
        api_start,
        api_stop,
        cancel,
        check,
        copy_from,
        copy_to,
        down,
        exec,
        gpus,
        launch,
        local_down,
        local_up,
        logs,
        plan,
        queue,
        requests,
        status,
    )
    from whimbrel.model.errors import WhimError
    from whimbrel.model.exitcodes import ExitCode
    from whimbrel.model.status import ClusterStatus, JobStatus, RequestState
    from whimbrel.model.task import Accelerators, Amount, Resources, Task
    from whimbrel.model.yamltask import load_task

_HOMES = {
    "whimbrel.client.sdk": (
        "Request api_info api_start api_stop cancel check copy_from copy_to down exec gpus launch local_down local_up "
        "logs plan queue requests status"
    ),
    "whimbrel.model.errors": "WhimError",
    "whimbrel.model.exitcodes": "ExitCode",
    "whimbrel.model.status": "ClusterStatus JobStatus RequestState",
    "whimbrel.model.task": "Accelerators Amount Resources Task",
    "whimbrel.model.yamltask": "load_task",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Accelerators",
    "Amount",
    "ClusterStatus",
    "ExitCode",
    "JobStatus",
    "Request",
    "RequestState",
    "Resources",
    "Task",
    "WhimError",
    "api_info",
    "api_start",
    "api_stop",
    "cancel",
    "check",
    "copy_from",
    "copy_to",
    "down",
    "exec",
    "gpus",
    "launch",
    "load_task",
    "local_down",
    "local_up",
    "logs",
    "plan",
    "queue",
    "requests",
    "status",
]


def __getattr__(name: str) -> object:
    """Import a verb when it is first used."""
    if name not in _HOME_OF:
        error = getattr(import_module("whimbrel.model.errors"), name, None)
        if isinstance(error, type) and issubclass(error, Exception):
            return error
        raise AttributeError(f"module 'whimbrel' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
