"""Rows as clients see them. Pure: from data to JSON, without anything secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whimbrel.infra.base import NodeShape, Offer
from whimbrel.infra.guard import GuardView
from whimbrel.jobs import records
from whimbrel.model.status import JobStatus
from whimbrel.store.clusters import ClusterRow
from whimbrel.store.jobs import JobRow
from whimbrel.store.requests import Event, Request
from whimbrel.store.things import LedgerEntry
from whimbrel.store.tombstones import Tombstone
from whimbrel.store.volumes import VolumeRow

_WAITING = (JobStatus.PENDING, JobStatus.STARTING)


def resources(shape: NodeShape) -> dict[str, Any]:
    """What each node has."""
    accelerators = f"{shape.accelerator}:{shape.accelerator_count}" if shape.accelerator else None
    return {"cpus": shape.cpus, "memory_gib": shape.memory_gib, "accelerators": accelerators}


def cluster(row: ClusterRow, counts: Mapping[JobStatus, int], guard: GuardView | None) -> dict[str, Any]:
    """One cluster, for `status`; with what its place's guard knows, which costs no call."""
    return {
        "name": row.name,
        "uid": row.uid,
        "status": row.status,
        "infra": row.infra,
        "num_nodes": row.num_nodes,
        "resources": resources(records.shape_of(row)),
        "created_at": row.created_at,
        "launched_at": row.launched_at,
        "observed_at": row.observed_at,
        "autodown": row.autodown,
        "user": row.user,
        "jobs": {
            "running": sum(count for status, count in counts.items() if status not in _WAITING),
            "pending": sum(count for status, count in counts.items() if status in _WAITING),
        },
        "last_error": row.last_error,
        "nodes": row.nodes,
        "endpoints": row.endpoints,
        "endpoints_at": row.endpoints_at,
        "infra_state": (guard or GuardView(state="closed")).to_wire(),
    }


def tombstone(row: Tombstone, ledger: Sequence[LedgerEntry]) -> dict[str, Any]:
    """One tombstone, with the names and labels of what may be left."""
    return {
        "name": row.name,
        "id": row.cluster_uid[:8],
        "uid": row.cluster_uid,
        "infra": row.infra,
        "identity": row.identity,
        "namespace": row.namespace,
        "num_nodes": row.num_nodes,
        "resources": resources(NodeShape(**row.shape)),
        "task": row.task,
        "user": row.user,
        "created_at": row.created_at,
        "buried_at": row.buried_at,
        "buried_by": row.buried_by,
        "request": row.request,
        "reason": row.reason,
        "reaped_at": row.reaped_at,
        "reaped_by": row.reaped_by,
        "left": [
            {
                "kind": entry.kind,
                "namespace": entry.namespace,
                "name": entry.name,
                "labels": entry.labels,
                "last_seen_at": entry.last_seen_at,
            }
            for entry in ledger
            if entry.state == "forgotten"
        ],
    }


def volume(row: VolumeRow, used_by: list[str]) -> dict[str, Any]:
    """One volume, for `volumes ls`."""
    return {
        "name": row.name,
        "status": row.status,
        "phase": row.phase,
        "infra": row.infra,
        "namespace": row.namespace,
        "claim": row.claim,
        "size": row.spec.get("size"),
        "access_mode": (row.spec.get("config") or {}).get("access_mode"),
        "existing": bool(row.spec.get("use_existing")),
        "used_by": used_by,
        "user": row.user,
        "created_at": row.created_at,
        "observed_at": row.observed_at,
        "last_error": row.last_error,
    }


def job(row: JobRow, waits: str = "") -> dict[str, Any]:
    """One job, for `queue`; `waits` says why it does not run yet."""
    return {
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "num_nodes": row.num_nodes,
        "resources": {"cpus": row.cpus or None, "gpus": row.gpus or None},
        "submitted_at": row.submitted_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "exit_codes": exit_codes(row),
        "reason": row.reason or waits,
    }


def exit_codes(row: JobRow) -> list[int | None]:
    """By rank; None where there is none (yet)."""
    return [rank.exit_code for rank in records.ranks(row)]


def request(row: Request) -> dict[str, Any]:
    """One request, without its body."""
    return {
        "id": row.id,
        "kind": row.kind,
        "subject": row.subject,
        "actor": row.actor,
        "state": row.state,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "cancel_requested_at": row.cancel_requested_at,
        "cancel_reason": row.cancel_reason,
        "losses": row.losses,
        "output": row.output,
        "error": row.error,
    }


def event(row: Event) -> dict[str, Any]:
    """One event of a request."""
    return {"idx": row.idx, "at": row.at, "kind": row.kind, "data": row.data}


def offer(row: Offer, *, chosen: bool) -> dict[str, Any]:
    """One place of a plan."""
    shape = row.shape
    return {
        "infra": row.infra,
        "feasible": row.feasible,
        "reason": row.reason,
        "note": row.note,
        "cpus": shape.cpus if shape else None,
        "memory_gib": shape.memory_gib if shape else None,
        "accelerators": f"{shape.accelerator}:{shape.accelerator_count}"
        if shape and shape.accelerator
        else None,
        "hourly_price": row.hourly_price,
        "chosen": chosen,
    }
