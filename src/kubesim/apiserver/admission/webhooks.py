"""MutatingWebhookConfiguration and ValidatingWebhookConfiguration: programs elsewhere that look at requests.

Mutating webhooks are called one after the other, each seeing what the ones before it have made; validating ones all at
once, and the first refusal in their order counts. A webhook that gives no usable answer within its time fails the
request or is passed over, as its `failurePolicy` says. Calls are made with nothing of the store held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from kubesim import errors
from kubesim.apiserver.admission.base import Again, Attempt, Cluster
from kubesim.apiserver.admission.calling import CallFailed
from kubesim.apiserver.admission.conditions import conditions_hold
from kubesim.apiserver.admission.matching import exempt, matched, selected
from kubesim.apiserver.admission.review import (
    Unusable,
    Verdict,
    denied,
    patched,
    request_of,
    review,
    verdict,
)
from kubesim.apiserver.admission.versions import as_asked, in_version, taken_back, with_system_fields
from kubesim.apiserver.requests import JsonObject
from kubesim.errors import quoted
from kubesim.schema.registry import ResourceType

log = logging.getLogger(__name__)

_GROUP = "admissionregistration.k8s.io"
_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Summons:
    """A webhook that is to be called for a request."""

    configuration: str
    index: int
    """Its place among the webhooks that are called."""
    hook: JsonObject
    rt: ResourceType
    """The resource in the version that the webhook knows."""

    @property
    def name(self) -> str:
        return str(self.hook["name"])

    @property
    def key(self) -> str:
        return f"{self.configuration}/{self.name}"

    @property
    def optional(self) -> bool:
        return bool(self.hook.get("failurePolicy") == "Ignore")


def _hooks(cluster: Cluster, plural: str) -> Iterator[tuple[str, JsonObject]]:
    """All webhooks with the name of their configuration, in the order in which they are called."""
    table = cluster.store.table(f"{_GROUP}/{plural}")
    if not len(table):
        return
    for key in sorted(stored.name for stored in table.all()):
        found = cluster.lookup(_GROUP, "v1", plural, key)
        for hook in (found or {}).get("webhooks") or ():
            yield key.lstrip("/"), hook


async def _summoned(
    cluster: Cluster,
    attempt: Attempt,
    obj: JsonObject | None,
    configuration: str,
    index: int,
    hook: JsonObject,
) -> Summons | None:
    """Whether this webhook is about the request. Raises StatusError when that cannot be said."""
    policy = hook.get("matchPolicy") or "Equivalent"
    rt = matched(hook.get("rules") or (), policy, attempt, cluster.registry)
    if rt is None or not selected(cluster, hook, attempt, obj):
        return None
    summons = Summons(configuration=configuration, index=index, hook=hook, rt=rt)
    if hook.get("matchConditions") and not conditions_hold(
        cluster,
        attempt,
        hook,
        rt,
        await in_version(cluster, attempt, rt, obj),
        await _old(cluster, attempt, rt),
    ):
        return None
    return summons


async def _old(cluster: Cluster, attempt: Attempt, rt: ResourceType) -> JsonObject | None:
    return await in_version(cluster, attempt, rt, attempt.old)


async def _answer(
    cluster: Cluster, attempt: Attempt, summons: Summons, obj: JsonObject | None, *, mutating: bool
) -> Verdict | None:
    """What the webhook says; None when it says nothing and that does not matter. Raises StatusError."""
    hook, name = summons.hook, quoted(summons.name)
    if attempt.dry_run and hook.get("sideEffects") not in ("None", "NoneOnDryRun"):
        raise errors.bad_request(f"admission webhook {name} does not support dry run")
    old = await _old(cluster, attempt, summons.rt)
    request = request_of(attempt, summons.rt, obj, old, cluster.environment.uid())
    try:
        asked = review(hook, request)
        seconds = float(hook.get("timeoutSeconds") or _SECONDS)
        answer = await cluster.webhooks.post(hook["clientConfig"], asked, seconds)
        return verdict(asked, answer, mutating=mutating)
    except (CallFailed, Unusable) as failure:
        if not summons.optional:
            raise errors.internal(f"failed calling webhook {name}: {failure}") from None
        log.warning("failed calling webhook %s, failing open: %s", name, failure)
        kind = "mutating" if mutating else "validating"
        key = f"failed-open.{kind}.webhook.admission.k8s.io/round_0_index_{summons.index}"
        attempt.notes.audit[key] = summons.name
        return None


def _noted(attempt: Attempt, summons: Summons, said: Verdict) -> None:
    """Pass on what the webhook says beside its verdict. Raises StatusError when that is a refusal."""
    for key, value in said.annotations.items():
        attempt.notes.audit[f"{summons.name}/{key}"] = str(value)
    attempt.notes.warnings += said.warnings
    if not said.allowed:
        raise denied(summons.name, said.result)


class MutatingWebhooks:
    """A hook of admission."""

    async def mutate(
        self, cluster: Cluster, attempt: Attempt, obj: JsonObject | None, again: Again
    ) -> JsonObject | None:
        if exempt(attempt):
            return obj
        for index, (configuration, hook) in enumerate(_hooks(cluster, "mutatingwebhookconfigurations")):
            if again.skips(f"{configuration}/{hook['name']}"):
                continue
            summons = await _summoned(cluster, attempt, obj, configuration, index, hook)
            if summons is None:
                continue
            made = await self._called(cluster, attempt, summons, obj, again)
            if made is not obj:
                obj = made
                again.changed()
            if hook.get("reinvocationPolicy") == "IfNeeded":
                again.passed.add(summons.key)
        return obj

    async def _called(
        self, cluster: Cluster, attempt: Attempt, summons: Summons, obj: JsonObject | None, again: Again
    ) -> JsonObject | None:
        seen = await in_version(cluster, attempt, summons.rt, obj)
        shown = as_asked(attempt, seen)
        said = await _answer(cluster, attempt, summons, shown, mutating=True)
        if said is None:
            return obj
        _noted(attempt, summons, said)
        made = obj
        if said.patch and orjson.loads(said.patch) != []:
            made = await self._patched(cluster, attempt, summons, obj, seen, shown, said)
        attempt.notes.audit[
            f"mutation.webhook.admission.k8s.io/round_{int(again.second)}_index_{summons.index}"
        ] = orjson.dumps(
            {
                "configuration": summons.configuration,
                "webhook": summons.name,
                "mutated": made is not obj,
            }
        ).decode()
        return made

    async def _patched(
        self,
        cluster: Cluster,
        attempt: Attempt,
        summons: Summons,
        obj: JsonObject | None,
        seen: JsonObject | None,
        shown: JsonObject | None,
        said: Verdict,
    ) -> JsonObject | None:
        name = quoted(summons.name)
        if seen is None or shown is None:
            why = "attempted to modify the object, which is not supported for this operation"
            raise errors.internal(f"admission webhook {name} {why}")
        if said.patch_type != "JSONPatch":
            why = f"unsupported patch type {quoted(said.patch_type)}"
            raise errors.internal(f"failed calling webhook {name}: {why}")
        made = patched(shown, said)
        if made == shown:
            return obj
        return await taken_back(cluster, attempt, summons.rt, with_system_fields(attempt, seen, made))


class ValidatingWebhooks:
    """A validator of admission."""

    async def validate(self, cluster: Cluster, attempt: Attempt, obj: JsonObject | None) -> None:
        if exempt(attempt):
            return
        called: list[Summons] = []
        for index, (configuration, hook) in enumerate(_hooks(cluster, "validatingwebhookconfigurations")):
            summons = await _summoned(cluster, attempt, obj, configuration, index, hook)
            if summons is not None:
                called.append(summons)
        if not called:
            return
        asked = [self._called(cluster, attempt, summons, obj) for summons in called]
        for said in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(said, BaseException):
                raise said

    async def _called(
        self, cluster: Cluster, attempt: Attempt, summons: Summons, obj: JsonObject | None
    ) -> None:
        shown = await in_version(cluster, attempt, summons.rt, obj)
        said = await _answer(cluster, attempt, summons, shown, mutating=False)
        if said is not None:
            _noted(attempt, summons, said)
