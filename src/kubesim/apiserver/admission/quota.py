"""ResourceQuota: what would exceed a quota of its namespace is refused.

An object first takes what it uses as a reservation in memory, in one step with the check, so that of any number of
requests at once only as many pass as there is room for. When it is stored, its use is added to the quota's status and
the reservation ends; when it is not, the reservation ends alone, and nothing has been counted that is not there.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import orjson

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.kinds.podtotals import Amounts, parsed, plus
from kubesim.apiserver.objects import encode
from kubesim.apiserver.quota.usage import (
    CLAIMS,
    PODS,
    SERVICES,
    ZERO,
    in_scope,
    limits_of,
    shown,
    unnamed,
    usage,
)
from kubesim.apiserver.requests import JsonObject
from kubesim.schema.quantity import Quantity
from kubesim.store import KeyMissing, RevisionMismatch

TABLE = "/resourcequotas"
_MEASURED_UPDATES = frozenset({SERVICES, CLAIMS})
_NOT_COUNTED = frozenset({"authorization.k8s.io", "authentication.k8s.io"})
_ATTEMPTS = 50


class Quotas:
    """A guard of admission. It knows what is reserved."""

    def __init__(self) -> None:
        self._reserved: dict[str, list[Amounts]] = {}
        """By the key of a quota: what those use who are on their way into the store."""

    def hold(
        self, cluster: Cluster, attempt: Attempt, obj: JsonObject
    ) -> contextlib.AbstractAsyncContextManager[None] | None:
        if not attempt.namespace or attempt.rt.group in _NOT_COUNTED or not _measured(attempt):
            return None
        quotas = [
            (stored.name, found)
            for stored in cluster.store.table(TABLE).all(attempt.namespace)
            if (found := cluster.lookup("", "v1", "resourcequotas", stored.name)) is not None
        ]
        return self._held(cluster, attempt, obj, quotas) if quotas else None

    @contextlib.asynccontextmanager
    async def _held(
        self, cluster: Cluster, attempt: Attempt, obj: JsonObject, quotas: list[tuple[str, JsonObject]]
    ) -> AsyncIterator[None]:
        taken = self._checked(attempt, obj, quotas)
        for key, amounts in taken.items():
            self._reserved.setdefault(key, []).append(amounts)
        try:
            yield
            if not attempt.dry_run:
                for key, amounts in taken.items():
                    await _charge(cluster, key, amounts)
        finally:
            for key, amounts in taken.items():
                left = [one for one in self._reserved[key] if one is not amounts]
                if left:
                    self._reserved[key] = left
                else:
                    del self._reserved[key]

    def _checked(
        self, attempt: Attempt, obj: JsonObject, quotas: list[tuple[str, JsonObject]]
    ) -> dict[str, Amounts]:
        """What the object takes of each quota. Raises StatusError 403."""
        resource = attempt.rt.group_resource
        delta = _delta(attempt, obj)
        taken: dict[str, Amounts] = {}
        about: list[tuple[str, JsonObject, list[str]]] = []
        for key, quota in quotas:
            limits = limits_of(resource, (quota.get("status") or {}).get("hard") or ())
            if not limits or not in_scope(quota.get("spec") or {}, resource, obj):
                continue
            name = quota["metadata"]["name"]
            why = unnamed(obj, limits) if resource == PODS else ""
            if why:
                raise _refused(attempt, f"failed quota: {name}: {why}")
            unknown = [one for one in limits if one not in (quota["status"].get("used") or {})]
            if unknown:
                raise _refused(attempt, f"status unknown for quota: {name}, resources: {','.join(unknown)}")
            about.append((key, quota, limits))
        for key, quota, limits in about:
            asked = {one: delta[one] for one in limits if one in delta}
            if asked:
                self._fit(attempt, key, quota, asked)
                taken[key] = asked
        return taken

    def _fit(self, attempt: Attempt, key: str, quota: JsonObject, asked: Amounts) -> None:
        status = quota["status"]
        hard, used = parsed(status["hard"]), parsed(status["used"])
        for other in self._reserved.get(key, ()):
            used = plus(used, other)
        over = sorted(
            name
            for name, amount in asked.items()
            if used.get(name, ZERO).nanos + amount.nanos > hard[name].nanos
        )
        if not over:
            return

        def listed(amounts: Amounts) -> str:
            return ",".join(f"{name}={amounts.get(name, ZERO)}" for name in over)

        raise _refused(
            attempt,
            f"exceeded quota: {quota['metadata']['name']}, requested: {listed(asked)}, used: {listed(used)}, "
            f"limited: {listed(hard)}",
        )


def _measured(attempt: Attempt) -> bool:
    if attempt.operation == "CREATE":
        return not attempt.subresource
    if attempt.operation != "UPDATE":
        return False
    resource = attempt.rt.group_resource
    if resource == PODS:
        return attempt.subresource == "resize"
    return resource in _MEASURED_UPDATES and not attempt.subresource


def _delta(attempt: Attempt, obj: JsonObject) -> Amounts:
    """What comes on top of what is there; never less than nothing."""
    resource = attempt.rt.group_resource
    new = usage(resource, obj)
    if attempt.old is not None:
        old = usage(resource, attempt.old)
        new = {
            name: Quantity(amount.nanos - old.get(name, ZERO).nanos, amount.form)
            for name, amount in new.items()
        }
    return {name: amount for name, amount in new.items() if amount.nanos > 0}


async def _charge(cluster: Cluster, key: str, amounts: Amounts) -> None:
    """Add to the quota's status; a quota that has gone, or does not know itself yet, is counted by its controller."""
    for _ in range(_ATTEMPTS):
        stored = cluster.store.head(TABLE, key)
        if stored is None:
            return
        quota = orjson.loads(b"{" + stored.data)
        status = quota.get("status") or {}
        used = parsed(status.get("used"))
        more = {name: amount for name, amount in amounts.items() if name in used}
        quota["status"] = {**status, "used": shown(plus(used, more))}
        try:
            await cluster.store.update(TABLE, key, stored.revision, partial(encode, quota))
        except RevisionMismatch:
            continue
        except KeyMissing:
            pass  # deleted meanwhile
        return


def _refused(attempt: Attempt, why: str) -> errors.StatusError:
    return errors.forbidden(attempt.rt.group_resource, attempt.name, why)
