"""`volumes apply` and `volumes delete`: a row is there before its claim, and closed when the claim was seen gone.

A volume that a cluster has is not deleted, and who has it is named. What was not made by us is not deleted either: its
row is closed, and the claim stays.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from whimbrel.infra.base import Infra
from whimbrel.infra.provision import VolumeSeen, VolumeSpec
from whimbrel.jobs import records
from whimbrel.model.config import Config
from whimbrel.model.configreader import config_from_wire
from whimbrel.model.errors import (
    Conflict,
    DeadlineExceeded,
    InfraError,
    InvalidTask,
    LeftBehind,
    Unreachable,
    WhimError,
)
from whimbrel.model.volume import Volume, volume_of
from whimbrel.operations.tools import Tools
from whimbrel.requests.run import Run
from whimbrel.store import audit, clock, clusters, things, volumes
from whimbrel.store.volumes import VolumeRow

MAKE = 30.0
REMOVE = 20.0
LOOK = 6.0


def subject(name: str) -> str:
    """The subject of requests about a volume."""
    return f"volume:{name}"


def spec_of(row: VolumeRow) -> VolumeSpec:
    """What the infrastructure is asked to make so."""
    volume = volume_of(row.spec)
    return VolumeSpec(
        uid=row.uid,
        name=row.name,
        claim=row.claim,
        namespace=row.namespace,
        identity=row.identity,
        user=row.user,
        existing=volume.use_existing,
        size_gib=volume.size_gib or 0.0,
        access_mode=volume.access_mode,
        storage_class=volume.storage_class or "",
        labels=volume.labels,
    )


def users_of(connection: Connection, name: str) -> list[str]:
    """The clusters that have it."""
    return [
        cluster.name
        for cluster in clusters.list_open(connection)
        if any(mount.volume == name for mount in records.provision_of(cluster).mounts)
    ]


class ApplyVolume:
    """The operation behind `whim volumes apply`."""

    kind = "volume.apply"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, run: Run) -> dict[str, Any]:
        """Make it so, or say why a volume of that name is another one."""
        volume = volume_of(run.body["volume"])
        config = config_from_wire(run.body.get("config") or {})
        row = await run.read(lambda connection: volumes.find(connection, volume.name))
        if row is None:
            row = await self._record(run, volume, config)
        self._check_same(row, volume)
        infra, spec = await self._tools.places.get(row.infra, row.kubeconfig), spec_of(row)

        async def make() -> dict[str, Any]:
            seen = await infra.make_volume(spec)
            return {"phase": seen.phase}

        try:
            planned = () if spec.existing else (infra.volume_thing(spec),)
            made = await run.step("claim", make, deadline=MAKE, things=planned)
        except WhimError as error:
            wire, uid = error.to_wire(), row.uid
            await run.write(lambda connection: volumes.failed(connection, uid, wire))
            raise
        uid = row.uid
        await run.write(lambda connection: volumes.ready(connection, uid, phase=made["phase"], now=run.now()))
        return {"volume": row.name, "infra": row.infra, "claim": row.claim, "phase": made["phase"]}

    async def _record(self, run: Run, volume: Volume, config: Config) -> VolumeRow:
        places = self._tools.places
        names = list(await places.candidates(volume.infra or "k8s", run.body["kubeconfig"], config))
        if len(names) > 1:
            raise InvalidTask(
                f"The volume {volume.name} does not say in which of the contexts it is to be: {', '.join(names)}.",
                remedy=f"--infra {names[0]}",
            )
        infra: Infra = await places.get(names[0], run.body["kubeconfig"])
        identity = await infra.identity()
        settings = config.of(names[0].partition("/")[2])
        uid = uuid.uuid4().hex
        claim = volume.name if volume.use_existing else f"{volume.name}-{uid[:8]}"

        def add(connection: Connection) -> VolumeRow:
            return volumes.add(
                connection,
                uid=uid,
                name=volume.name,
                infra=infra.name,
                kubeconfig=run.body["kubeconfig"],
                identity=identity,
                namespace=volume.namespace or settings.namespace or infra.home(),
                claim=claim,
                spec=volume.to_wire(),
                user=run.actor,
                now=run.now(),
            )

        return await run.write(add)

    @staticmethod
    def _check_same(row: VolumeRow, volume: Volume) -> None:
        have = volume_of(row.spec)
        if row.status == "DELETING":
            raise Conflict(
                f"The volume {row.name} is being deleted.", remedy=f"whim volumes delete {row.name}"
            )
        wanted = replace(
            volume, infra=volume.infra or have.infra, namespace=volume.namespace or have.namespace
        )
        if have != wanted:
            raise Conflict(
                f"There is a volume {row.name} already, which was asked for in another way "
                f"({row.infra}, {have.size_gib or 0:g} GiB, {have.access_mode}).",
                remedy=f"use another name, or `whim volumes delete {row.name}` first",
            )


class DeleteVolume:
    """The operation behind `whim volumes delete`."""

    kind = "volume.delete"

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def run(self, run: Run) -> dict[str, Any]:
        """Delete it, and close its row when it was seen gone; with `purge` in any case."""
        name, purge = run.body["volume"], bool(run.body["purge"])

        def intend(connection: Connection) -> VolumeRow:
            row = volumes.get(connection, name)
            used = users_of(connection, name)
            if used:
                raise Conflict(
                    f"The volume {name} is in use by {_clusters(used)}.", remedy=f"whim down {' '.join(used)}"
                )
            volumes.deleting(connection, row.uid)
            things.deleting(connection, row.uid, now=run.now())
            return row

        row = await run.write(intend)
        if spec_of(row).existing:
            await self._close(run, row, "left in place: it was not made here")
            return {"volume": name, "outcome": "released", "claim": row.claim}
        try:
            seen = await run.step("remove", lambda: self._remove(row), deadline=REMOVE + 15)
        except (InfraError, DeadlineExceeded) as error:
            if not purge:
                await self._refuse(run, row, error)
                raise
            await self._close(run, row, "forgotten", forgotten=error.message)
            return {
                "volume": name,
                "outcome": "forgotten",
                "left": [_described(row)],
                "reason": error.message,
            }
        if seen["phase"] and not purge:
            by = f"; used by the pods {', '.join(seen['used_by'])}" if seen["used_by"] else ""
            refusal = LeftBehind(
                f"The claim of the volume {name} is still there after {REMOVE:g} s ({seen['phase']}{by}).",
                remedy=f"end what uses it, and repeat `whim volumes delete {name}`",
                details={"used_by": seen["used_by"]},
            )
            await self._refuse(run, row, refusal)
            raise refusal
        if seen["phase"]:
            await self._close(run, row, "forgotten", forgotten="it was still there")
            return {"volume": name, "outcome": "forgotten", "left": [_described(row)]}
        await self._close(run, row, "seen gone")
        return {"volume": name, "outcome": "removed", "left": []}

    async def _remove(self, row: VolumeRow) -> dict[str, Any]:
        infra = await self._tools.places.get(row.infra, row.kubeconfig)
        try:
            async with asyncio.timeout(REMOVE + 10):
                seen = await infra.remove_volume(spec_of(row), REMOVE)
        except TimeoutError:
            raise Unreachable(f"{row.infra} did not answer in time.") from None
        return {"phase": seen.phase, "used_by": list(seen.used_by)}

    @staticmethod
    async def _refuse(run: Run, row: VolumeRow, error: WhimError) -> None:
        purge = f"`whim volumes delete --purge {row.name}` forgets it without that"
        error.remedy = f"{error.remedy}; {purge}" if error.remedy else purge
        wire = error.to_wire()
        await run.write(lambda connection: volumes.failed(connection, row.uid, wire))

    @staticmethod
    async def _close(run: Run, row: VolumeRow, outcome: str, *, forgotten: str = "") -> None:
        def close(connection: Connection) -> None:
            if forgotten:
                things.forget(connection, row.uid, by=run.actor, reason=forgotten, now=run.now())
            else:
                things.absent(connection, row.uid, now=run.now())
            volumes.close(connection, row.uid, now=run.now())
            audit.write(
                connection,
                actor=run.actor,
                action="volume.delete",
                subject=subject(row.name),
                request=run.id,
                now=run.now(),
                data={"uid": row.uid, "infra": row.infra, "claim": row.claim, "outcome": outcome},
            )

        await run.write(close)


async def refresh(tools: Tools) -> list[dict[str, Any]]:
    """Look at every volume, side by side and within a bound; the errors of what could not be seen."""
    rows = await tools.store.read(volumes.list_open)
    outcomes = await asyncio.gather(*(_look(tools, row) for row in rows))
    return [outcome for outcome in outcomes if outcome is not None]


async def _look(tools: Tools, row: VolumeRow) -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(LOOK):
            infra = await tools.places.get(row.infra, row.kubeconfig)
            seen: VolumeSeen = await infra.observe_volume(spec_of(row))
    except TimeoutError:
        error: WhimError = Unreachable(
            f"{row.infra} did not answer within {LOOK:g} s.", remedy=f"whim check {row.infra}"
        )
        return {"volume": row.name, "infra": row.infra, "error": error.to_wire()}
    except InfraError as raised:
        return {"volume": row.name, "infra": row.infra, "error": raised.to_wire()}
    phase = (seen.phase or "gone") + (f": {seen.message}" if seen.message else "")
    await tools.store.write(
        lambda connection: volumes.observed(connection, row.uid, phase=phase, now=clock.now())
    )
    return None


def _clusters(names: list[str]) -> str:
    return f"the cluster{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _described(row: VolumeRow) -> str:
    return f"PersistentVolumeClaim {row.namespace}/{row.claim}"
