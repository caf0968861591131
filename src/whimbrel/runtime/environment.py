"""The variables that a job and its setup find in their environment. Pure.

Every `WHIMBREL_X` has its `SKYPILOT_X` beside it, so that a task written for SkyPilot runs unchanged. A variable of
the user's own wins, except over these two families.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a job runs, as its environment tells it."""

    cluster: str
    infra: str  # "k8s/CONTEXT"
    ips: Sequence[str]  # by rank
    gpus_per_node: int = 0
    user: str = ""
    envs: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def job_environment(place: Place, *, rank: int, job_id: int, task_id: str) -> dict[str, str]:
    """What one rank's `run` gets."""
    return _complete(
        place,
        {
            "NODE_RANK": str(rank),
            "NODE_IPS": "\n".join(place.ips),
            "NUM_NODES": str(len(place.ips)),
            "NUM_GPUS_PER_NODE": str(place.gpus_per_node),
            "TASK_ID": task_id,
            "INTERNAL_JOB_ID": str(job_id),
        },
    )


def setup_environment(place: Place, *, rank: int, task_id: str) -> dict[str, str]:
    """What one rank's `setup` gets."""
    return _complete(
        place,
        {
            "SETUP_NODE_RANK": str(rank),
            "SETUP_NODE_IPS": "\n".join(place.ips),
            "SETUP_NUM_GPUS_PER_NODE": str(place.gpus_per_node),
            "NUM_NODES": str(len(place.ips)),
            "TASK_ID": task_id,
        },
    )


def make_task_id(cluster: str, job: str, *, submitted_at: str) -> str:
    """An id that names one submission, in SkyPilot's form: `whimbrel-<time>_<cluster>_<job>`."""
    return f"whimbrel-{submitted_at}_{cluster}_{job}"


def _complete(place: Place, own: Mapping[str, str]) -> dict[str, str]:
    provider, _, region = place.infra.partition("/")
    cloud = {"k8s": "Kubernetes"}.get(provider, provider)
    info = {"cluster_name": place.cluster, "cloud": cloud, "region": region, "zone": None}
    shared = {**own, "CLUSTER_INFO": json.dumps(info), "USER": place.user}
    variables = {"PYTHONUNBUFFERED": "1", **place.envs, **place.secrets}
    for name, value in shared.items():
        variables[f"WHIMBREL_{name}"] = value
        variables[f"SKYPILOT_{name}"] = value
    return variables
