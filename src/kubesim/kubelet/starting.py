"""Starting a container: folders, volumes, environment and place are made, written down, and then the zygote is asked.

What keeps a container from starting and is nobody's mistake here (a missing ConfigMap, a volume that cannot be made) is
kept as its problem: it waits with that reason and is tried again. Every step is safe to repeat after a crash.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesim.kubelet import containerfiles, environment, references, sandbox, volumes
from kubesim.kubelet.addresses import HOST, allocate
from kubesim.kubelet.containers import JsonObject, every_container
from kubesim.kubelet.devices import GPU_RESOURCE, NoDevice
from kubesim.kubelet.environment import ConfigError
from kubesim.kubelet.link import Link
from kubesim.kubelet.reconcile import Start
from kubesim.kubelet.records import PodFolder, PodRecord
from kubesim.kubelet.sandbox import Place
from kubesim.kubelet.surroundings import Surroundings
from kubesim.kubelet.volumes import VolumeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """An attempt that has been started; `link` is None when it ended at once."""

    directory: Path
    container: JsonObject
    link: Link | None
    failed: bool


class Starter:
    """Starts the containers of one pod."""

    def __init__(self, surroundings: Surroundings, uid: str, record: PodRecord | None) -> None:
        self._with = surroundings
        self._uid = uid
        self.folder = PodFolder(surroundings.root / "pods" / uid)
        self.record = record
        self.problems: dict[str, tuple[str, str]] = {}

    async def start(self, pod: JsonObject, start: Start) -> Started | None:
        """Start an attempt; None when there is a problem."""
        container = _container(pod, start.container)
        if self.record is None:
            self.record = await asyncio.to_thread(self._create_folder, pod)
        try:
            await self._prepare(pod, container, start)
        except (ConfigError, NoDevice) as error:
            self.problems[start.container] = ("CreateContainerConfigError", str(error))
            self._with.events.warning(pod, "Failed", f"Error: {error}", start.container)
            return None
        except VolumeError as error:
            self.problems[start.container] = ("ContainerCreating", "")
            self._with.events.warning(pod, "FailedMount", str(error))
            return None
        self.problems.pop(start.container, None)
        directory = self.folder.attempt(start.container, start.number)
        link = await self._with.zygote.start(directory)
        end = await asyncio.to_thread(containerfiles.read_exit, str(directory))
        failed = end is not None and end.reason == "StartError"
        if failed and end is not None:
            self._with.events.warning(pod, "Failed", f"Error: {end.message}", start.container)
        else:
            self._with.events.normal(pod, "Started", "Container started", start.container)
        return Started(directory=directory, container=container, link=link, failed=failed)

    def _create_folder(self, pod: JsonObject) -> PodRecord:
        metadata = pod["metadata"]
        host_network = bool(pod["spec"].get("hostNetwork"))
        taken = self._with.taken_addresses()
        ip = HOST if host_network else allocate(f"{self._with.root}/{self._uid}", taken)
        record = PodRecord(uid=self._uid, namespace=metadata["namespace"], name=metadata["name"], ip=ip)
        self.folder.create(record)
        return record

    async def _prepare(self, pod: JsonObject, container: JsonObject, start: Start) -> None:
        """Make all that the container needs, and write down what is to be started."""
        assert self.record is not None
        directory = self.folder.attempt(start.container, start.number)
        if (directory / containerfiles.SPEC).exists():
            return  # it was prepared before the daemon was restarted
        sources = await references.read(
            self._with.client,
            pod,
            pod_ip=self.record.ip,
            host_ip=HOST,
            allocatable=self._with.allocatable,
        )
        if not self.folder.prepared:
            tokens = await references.request_tokens(self._with.client, pod)
            await asyncio.to_thread(self._make_volumes, pod, sources, tokens)
            images = ", ".join(sorted({one.get("image") or "(none)" for one in pod["spec"]["containers"]}))
            self._with.events.normal(
                pod,
                "ImageNotPulled",
                f"Recorded, not pulled: {images}. Processes run on this machine as it is.",
            )
        declared = environment.build(pod, container, sources)
        gpus = self._with.devices.claim(f"{self._uid}/{start.container}", _gpus(container))
        notes = {
            "container_id": f"process://{secrets.token_hex(32)}",
            "backoff": start.backoff,
            "gpus": gpus,
            "message_policy": container.get("terminationMessagePolicy"),
        }
        await asyncio.to_thread(self._make_place, pod, container, start, declared, notes)
        self._with.events.normal(pod, "Created", "Container created", start.container)

    def _make_volumes(self, pod: JsonObject, sources: environment.Sources, tokens: Mapping[str, str]) -> None:
        for volume in pod["spec"].get("volumes") or ():
            try:
                files = volumes.files_of(pod, volume, sources, tokens)
                volumes.write(self.folder.volumes / volume["name"], volume, files)
            except (VolumeError, OSError) as error:
                raise VolumeError(
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                ) from error
        self.folder.mark_prepared()

    def _make_place(
        self,
        pod: JsonObject,
        container: JsonObject,
        start: Start,
        declared: Mapping[str, str],
        notes: dict[str, Any],
    ) -> None:
        place = Place(self.folder.attempt(start.container, start.number))
        place.directory.mkdir(parents=True, exist_ok=True)
        place.directory.chmod(0o700)
        self.folder.forget_before(start.container, start.number)
        base = sandbox.base_environment(
            place,
            pod,
            host=self._with.host_variables,
            path=self._with.host_path,
            cache=self._with.root / "cache",
        )
        base |= self._with.devices.environment(notes["gpus"])
        spec = sandbox.make_spec(place, container, base, declared, notes)
        sandbox.prepare(place, pod, container, self._with.template(), self.folder.volumes)
        containerfiles.write_json(str(place.directory / containerfiles.SPEC), spec.to_json())


def _container(pod: JsonObject, name: str) -> JsonObject:
    return next(one for one in every_container(pod) if one["name"] == name)


def _gpus(container: JsonObject) -> int:
    resources = container.get("resources") or {}
    amount = (resources.get("limits") or {}).get(GPU_RESOURCE) or (resources.get("requests") or {}).get(
        GPU_RESOURCE
    )
    return int(amount or 0)
