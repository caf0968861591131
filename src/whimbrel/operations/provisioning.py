"""From a task and the user's settings to how nodes are made in one context. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from whimbrel.infra.provision import Mount, Provision
from whimbrel.model.config import FOR_EVER, Config
from whimbrel.model.task import Task, VolumeMount

LONGEST = 7 * 86400.0
"""Seconds that `provision_timeout: -1` means: nothing waits without a bound."""
LOCAL_PORTS = "podip"
USUAL_PORTS = "loadbalancer"


def provision_for(
    task: Task, config: Config, infra: str, claims: Mapping[str, str], *, local: bool = False
) -> Provision:
    """How the nodes of this task are made there. `claims` are the volumes of that place, by their names."""
    settings = task.config.over(config.of(infra.partition("/")[2]))
    resources, patience = task.resources, settings.provision_timeout
    return Provision(
        namespace=settings.namespace or "",
        image=resources.image or "",
        labels={**settings.labels, **resources.labels},
        annotations=settings.annotations,
        pod_config=settings.pod_config,
        service_account=settings.service_account or "",
        queue=settings.queue or "",
        priority_class=resources.priority_class or "",
        spot=bool(resources.use_spot),
        disk_gib=resources.disk_gib or 0.0,
        ports=resources.ports,
        port_mode=(settings.ports or (LOCAL_PORTS if local else USUAL_PORTS)) if resources.ports else "",
        mounts=tuple(_mount(path, mount, claims) for path, mount in task.volumes.items()),
        patience=LONGEST if patience == FOR_EVER else patience,
        autoscaler=settings.autoscaler or "",
    )


def _mount(path: str, mount: VolumeMount, claims: Mapping[str, str]) -> Mount:
    if mount.name is None:
        return Mount(
            path=path,
            size_gib=mount.size_gib or 0.0,
            storage_class=mount.storage_class or "",
            access_mode=mount.access_mode or "ReadWriteOnce",
        )
    return Mount(
        path=path, volume=mount.name, claim=claims.get(mount.name, ""), sub_path=mount.sub_path or ""
    )


def differences(task: Task, have: Provision) -> list[str]:
    """Why a cluster that exists cannot run a task, as phrases; what the task does not ask for is no difference."""
    problems = []
    asked = task.resources
    if asked.image and asked.image != (have.image or asked.image):
        problems.append(f"its nodes run the image {have.image}, and {asked.image} is asked for")
    elif asked.image and not have.image:
        problems.append(f"its nodes run the usual image, and {asked.image} is asked for")
    closed = [str(port) for port in asked.ports if port not in have.ports]
    if closed:
        problems.append(f"it does not open port {', '.join(closed)}")
    there = {mount.path: mount.volume for mount in have.mounts}
    missing = [path for path, mount in task.volumes.items() if there.get(path) != (mount.name or "")]
    if missing:
        problems.append(f"it was made without what is asked for at {', '.join(missing)}")
    if asked.use_spot and not have.spot:
        problems.append("its nodes are not on spot machines")
    return problems
