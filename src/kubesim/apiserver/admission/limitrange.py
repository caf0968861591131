"""LimitRanger: containers get the requests and limits that their namespace gives by default, and stay in its range."""

from __future__ import annotations

from collections.abc import Iterator

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.kinds.podtotals import Amounts, parsed, pod_total
from kubesim.apiserver.requests import JsonObject
from kubesim.schema.quantity import Quantity

_TABLE = "/limitranges"
_ANNOTATION = "kubernetes.io/limit-ranger"
_CONTAINERS = (("containers", "container"), ("initContainers", "init container"))


def _ranges(cluster: Cluster, attempt: Attempt) -> list[JsonObject]:
    """The items of all LimitRanges of the namespace."""
    found: list[JsonObject] = []
    for stored in cluster.store.table(_TABLE).all(attempt.namespace):
        one = cluster.lookup("", "v1", "limitranges", stored.name)
        if one is not None:
            found += (one.get("spec") or {}).get("limits") or ()
    return found


class LimitDefaults:
    """Fills in, as a plugin of admission."""

    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        if not attempt.creates("pods"):
            return obj
        done: list[str] = []
        for item in _ranges(cluster, attempt):
            if item["type"] == "Container" and (item.get("default") or item.get("defaultRequest")):
                obj, said = _filled(obj, item)
                done += said
        if not done:
            return obj
        annotations = {
            **(obj["metadata"].get("annotations") or {}),
            _ANNOTATION: f"LimitRanger plugin set: {'; '.join(done)}",
        }
        return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


def _filled(pod: JsonObject, item: JsonObject) -> tuple[JsonObject, list[str]]:
    done: list[str] = []
    spec = dict(pod["spec"])
    for key, title in _CONTAINERS:
        if not spec.get(key):
            continue
        made = []
        for container in spec[key]:
            resources = dict(container.get("resources") or {})
            for kind, given in (
                ("requests", item.get("defaultRequest") or {}),
                ("limits", item.get("default") or {}),
            ):
                own = resources.get(kind) or {}
                lacking = sorted(set(given) - set(own))
                if lacking:
                    resources[kind] = {**own, **{name: given[name] for name in lacking}}
                    done.append(f"{', '.join(lacking)} {kind[:-1]} for {title} {container['name']}")
            made.append({**container, "resources": resources} if resources else container)
        spec[key] = made
    return {**pod, "spec": spec}, done


class LimitRanges:
    """Refuses, as a validator of admission."""

    async def validate(self, cluster: Cluster, attempt: Attempt, obj: JsonObject | None) -> None:
        resource = attempt.rt.group_resource
        if obj is None:
            return
        if resource == "pods":
            applies = attempt.creates("pods") or (
                attempt.operation == "UPDATE" and attempt.subresource == "resize"
            )
        else:
            applies = (
                resource == "persistentvolumeclaims"
                and not attempt.subresource
                and attempt.operation in ("CREATE", "UPDATE")
                and not obj["metadata"].get("deletionTimestamp")
            )
        if not applies:
            return
        items = _ranges(cluster, attempt)
        if items:
            check = _pod if resource == "pods" else _claim
            found = list(dict.fromkeys(text for item in items for text in check(obj, item)))
            if found:
                why = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
                raise errors.forbidden(resource, attempt.name, why)


def _pod(pod: JsonObject, item: JsonObject) -> Iterator[str]:
    spec = pod["spec"]
    if item["type"] == "Container":
        for key, _ in _CONTAINERS:
            for container in spec.get(key) or ():
                resources = container.get("resources") or {}
                requests, limits = parsed(resources.get("requests")), parsed(resources.get("limits"))
                yield from _out_of_range(item, requests, limits)
    elif item["type"] == "Pod":
        yield from _out_of_range(item, pod_total(spec, "requests"), pod_total(spec, "limits"))


def _claim(claim: JsonObject, item: JsonObject) -> Iterator[str]:
    if item["type"] != "PersistentVolumeClaim":
        return
    requests = parsed(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    for name, bound in sorted(parsed(item.get("min")).items()):
        yield from _below(item["type"], name, bound, requests, {})
    for name, bound in sorted(parsed(item.get("max")).items()):
        rule = f"maximum {name} usage per {item['type']} is {bound}"
        if name not in requests:
            yield f"{rule}.  No request is specified"
        elif requests[name].nanos > bound.nanos:
            yield f"{rule}, but request is {requests[name]}"


def _out_of_range(item: JsonObject, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, bound in sorted(parsed(item.get("min")).items()):
        yield from _below(item["type"], name, bound, requests, limits)
    for name, bound in sorted(parsed(item.get("max")).items()):
        yield from _above(item["type"], name, bound, requests, limits)
    for name, bound in sorted(parsed(item.get("maxLimitRequestRatio")).items()):
        yield from _too_far_apart(item["type"], name, bound, requests, limits)


def _below(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> Iterator[str]:
    rule = f"minimum {name} usage per {kind} is {bound}"
    if name not in requests:
        yield f"{rule}.  No request is specified"
    elif requests[name].nanos < bound.nanos:
        yield f"{rule}, but request is {requests[name]}"
    elif name in limits and limits[name].nanos < bound.nanos:
        yield f"{rule}, but limit is {limits[name]}"


def _above(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> Iterator[str]:
    rule = f"maximum {name} usage per {kind} is {bound}"
    if name not in limits:
        yield f"{rule}.  No limit is specified"
    elif limits[name].nanos > bound.nanos:
        yield f"{rule}, but limit is {limits[name]}"
    elif name in requests and requests[name].nanos > bound.nanos:
        yield f"{rule}, but request is {requests[name]}"


def _too_far_apart(
    kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts
) -> Iterator[str]:
    rule = f"{name} max limit to request ratio per {kind} is {bound}"
    request, limit = requests.get(name), limits.get(name)
    if request is None or request.nanos == 0:
        yield f"{rule}, but no request is specified or request is 0"
    elif limit is None or limit.nanos == 0:
        yield f"{rule}, but no limit is specified or limit is 0"
    elif limit.nanos / request.nanos > bound.nanos / 10**9:
        yield f"{rule}, but provided ratio is {limit.nanos / request.nanos:.6f}"
