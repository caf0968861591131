"""The fields of a task YAML: what whimbrel honours, what it knows of SkyPilot's and refuses by name, what people mean.

A field of SkyPilot's is never ignored: a job that runs without its port or its disk is worse than one that is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

import whimbrel

TASK = (
    "name", "workdir", "num_nodes", "resources", "envs", "secrets", "file_mounts", "volumes", "setup", "run", "config",
    "experimental",
)  # fmt: skip
RESOURCES = (
    "cpus", "memory", "accelerators", "infra", "image_id", "ports", "labels", "use_spot", "disk_size", "priority_class",
)  # fmt: skip

_INFRA = "write `infra: k8s/CONTEXT`, `infra: k8s` or `infra: local`"

SKYPILOT_TASK: Mapping[str, str] = {
    "event_callback": "",
    "managed_secrets": "give the values with `secrets` and `--secret`",
    "volume_mounts": "use `volumes`",
    "service": "",
    "pool": "",
    "inputs": "",
    "outputs": "",
    "api_server_access": "",
    "file_mounts_mapping": "use `file_mounts`",
    "_metadata": "",
}
SKYPILOT_RESOURCES: Mapping[str, str] = {
    "any_of": "choose one",
    "ordered": "choose one",
    "instance_type": "say what the task needs with `cpus`, `memory` and `accelerators`",
    "spot_recovery": "",
    "ephemeral_storage": "use `disk_size`",
    "disk_tier": "",
    "network_tier": "",
    "local_disk": "",
    "max_hourly_cost": "",
    "autostop": "`whim launch --down` removes the cluster when its jobs are done",
    "job_recovery": "",
    "priority": "use `priority_class`",
    "volumes": "use `volumes` at the top of the task",
    "accelerator_args": "",
    "cloud": _INFRA,
    "region": _INFRA,
    "zone": _INFRA,
    "_docker_login_config": "",
    "_requires_fuse": "",
    "_cluster_config_overrides": "",
    "_no_missing_accel_warnings": "",
    "_is_image_managed": "",
}

_MEANT: Mapping[str, str] = {
    "gpu": "accelerators",
    "gpus": "accelerators",
    "accelerator": "accelerators",
    "cpu": "cpus",
    "mem": "memory",
    "ram": "memory",
    "context": "infra",
    "kubernetes": "infra",
    "command": "run",
    "commands": "run",
    "cmd": "run",
    "script": "run",
    "entrypoint": "run",
    "env": "envs",
    "environment": "envs",
    "env_vars": "envs",
    "nodes": "num_nodes",
    "replicas": "num_nodes",
    "working_dir": "workdir",
    "cwd": "workdir",
    "mounts": "file_mounts",
    "files": "file_mounts",
    "image": "image_id",
    "docker": "image_id",
    "spot": "use_spot",
    "volume": "volumes",
    "pvc": "volumes",
    "pod_config": "config",
    "disk": "disk_size",
    "port": "ports",
}


def cannot_honour(what: str) -> str:
    """The sentence for what SkyPilot has and this version does not."""
    version = ".".join(whimbrel.__version__.split(".")[:2])
    return f"{what} is a SkyPilot field that whimbrel {version} cannot honour yet"


def feature(what: str) -> str:
    """The same for something that is not a field."""
    return cannot_honour(what).replace("SkyPilot field", "SkyPilot feature")


def guess(name: str, known: Collection[str], elsewhere: Mapping[str, Collection[str]]) -> str:
    """A hint for an unknown field: the nearest known name, or the place where it belongs, or what there is."""
    for place, names in elsewhere.items():
        if name in names:
            return f"it belongs {place}"
    meant = _MEANT.get(name.lower().replace("-", "_"))
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    best = meant if meant in known else near[0] if near else meant
    if best is None:
        return f"known fields: {', '.join(known)}"
    if best in known:
        return f"did you mean '{best}'?"
    for place, names in elsewhere.items():
        if best in names:
            return f"did you mean '{best}' {place}?"
    return f"known fields: {', '.join(known)}"
