"""How many replicas the use of a resource asks for: the real autoscaler's rules for missing and unready pods. Pure.

All amounts are thousandths (of a core, of a byte). A pod that is not ready, or not yet, counts as using nothing when
that would add pods, and is left out otherwise; a pod without metrics counts as using nothing when pods would be added,
and as using what it should when they would be removed: what is not known never makes a change larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from kubesim.controllers.objects import condition, deleting, moment, phase, status_of
from kubesim.schema.quantity import parse
from kubewire.informer import Object

_INITIALIZATION = timedelta(minutes=5)  # in which a pod's CPU is that of its start
_FIRST_READINESS = timedelta(seconds=30)


class NoAnswer(Exception):
    """The number of replicas cannot be computed; the message is the real autoscaler's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one pod uses."""

    value: int
    at: datetime
    window: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far from its target a metric may be without anything being done."""

    up: float = 0.1
    down: float = 0.1

    def covers(self, ratio: float) -> bool:
        """Whether the ratio of what is to what should be is near enough to one."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Replicas, and what was measured."""

    replicas: int
    average: int
    utilization: int | None = None


@dataclass(frozen=True, slots=True)
class _Groups:
    ready: int
    unready: set[str]
    missing: set[str]
    ignored: set[str]


def by_utilization(
    current: int,
    target: int,
    resource: str,
    pods: list[Object],
    samples: Mapping[str, Sample],
    tolerance: Tolerance,
    now: datetime,
    *,
    container: str = "",
) -> Answer:
    """Replicas for a percentage of what the pods request."""
    groups, values = _known(pods, samples, resource, now)
    requests = {
        pod["metadata"]["name"]: _request(pod, resource, container)
        for pod in pods
        if pod["metadata"]["name"] not in groups.ignored
    }

    def ratio(of: Mapping[str, int]) -> float:
        total = sum(requests[name] for name in of if name in requests)
        if total == 0:
            raise NoAnswer("no metrics returned matched known pods")
        return int(sum(of[name] for name in of if name in requests) * 100 / total) / target

    first = ratio(values)
    total = sum(requests[name] for name in values)
    measured = sum(values.values())
    fallback = {name: requests[name] * max(100, target) // 100 for name in groups.missing}
    replicas = _replicas(current, first, groups, values, fallback, ratio, tolerance)
    average = measured // len(values)
    return Answer(replicas=replicas, average=average, utilization=int(measured * 100 / total))


def by_average(
    current: int,
    target: int,
    resource: str,
    pods: list[Object],
    samples: Mapping[str, Sample],
    tolerance: Tolerance,
    now: datetime,
) -> Answer:
    """Replicas for an amount per pod."""
    groups, values = _known(pods, samples, resource, now)

    def ratio(of: Mapping[str, int]) -> float:
        return sum(of.values()) // len(of) / target

    fallback = dict.fromkeys(groups.missing, target)
    replicas = _replicas(current, ratio(values), groups, values, fallback, ratio, tolerance)
    return Answer(replicas=replicas, average=sum(values.values()) // len(values))


def _known(
    pods: list[Object], samples: Mapping[str, Sample], resource: str, now: datetime
) -> tuple[_Groups, dict[str, int]]:
    if not pods:
        raise NoAnswer("no pods returned by selector while calculating replica count")
    groups = _grouped(pods, samples, resource, now)
    hidden = groups.ignored | groups.unready
    values = {name: one.value for name, one in samples.items() if name not in hidden}
    if not values:
        raise NoAnswer("did not receive metrics for targeted pods (pods might be unready)")
    return groups, values


def _replicas(
    current: int,
    first: float,
    groups: _Groups,
    values: dict[str, int],
    fallback: Mapping[str, int],
    ratio: object,
    tolerance: Tolerance,
) -> int:
    assert callable(ratio)
    rising_unready = bool(groups.unready) and first > 1.0
    if not rising_unready and not groups.missing:
        return current if tolerance.covers(first) else ceil(first * groups.ready)
    filled = dict(values)
    if first < 1.0:
        filled |= fallback
    elif first > 1.0:
        filled |= dict.fromkeys(groups.missing, 0)
    if rising_unready:
        filled |= dict.fromkeys(groups.unready, 0)
    second = float(ratio(filled))
    if tolerance.covers(second) or (first < 1.0 < second) or (second < 1.0 < first):
        return current
    wanted = ceil(second * len(filled))
    turned = (second < 1.0 and wanted > current) or (second > 1.0 and wanted < current)
    return current if turned else wanted


def _grouped(pods: Iterable[Object], samples: Mapping[str, Sample], resource: str, now: datetime) -> _Groups:
    groups = _Groups(0, set(), set(), set())
    ready = 0
    for pod in pods:
        name = pod["metadata"]["name"]
        if deleting(pod) or phase(pod) == "Failed":
            groups.ignored.add(name)
        elif phase(pod) == "Pending":
            groups.unready.add(name)
        elif name not in samples:
            groups.missing.add(name)
        elif resource == "cpu" and _warming_up(pod, samples[name], now):
            groups.unready.add(name)
        else:
            ready += 1
    return _Groups(ready, groups.unready, groups.missing, groups.ignored)


def _warming_up(pod: Object, sample: Sample, now: datetime) -> bool:
    found, started = condition(pod, "Ready"), moment(status_of(pod).get("startTime"))
    since = moment((found or {}).get("lastTransitionTime"))
    if found is None or started is None or since is None:
        return True
    if started + _INITIALIZATION > now:
        return found["status"] == "False" or sample.at < since + sample.window
    return found["status"] == "False" and started + _FIRST_READINESS > since


def _request(pod: Object, resource: str, only: str) -> int:
    total = 0
    spec = pod["spec"]
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        if only and container["name"] != only:
            continue
        amount = ((container.get("resources") or {}).get("requests") or {}).get(resource)
        if amount is None:
            name = pod["metadata"]["name"]
            raise NoAnswer(f"missing request for {resource} in container {container['name']} of Pod {name}")
        total += parse(str(amount)).milli
    return total
