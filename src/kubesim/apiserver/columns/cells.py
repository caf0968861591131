"""The cells that take more than a path: services, nodes, jobs, events, claims, autoscalers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubesim.apiserver.columns.values import (
    NONE,
    UNKNOWN,
    UNSET,
    Moment,
    access_modes,
    at,
    between,
    human,
    joined,
)
from kubesim.apiserver.selectors import shown_labels, shown_selector
from kubesim.errors import JsonObject


def selector(obj: JsonObject, moment: Moment) -> str:
    return shown_selector(at(obj, "spec", "selector", default=None))


def plain_selector(obj: JsonObject, moment: Moment) -> str:
    return shown_labels(at(obj, "spec", "selector", default=None))


# Services


def cluster_ip(obj: JsonObject, moment: Moment) -> str:
    return at(obj, "spec", "clusterIP") or NONE


def external_ip(obj: JsonObject, moment: Moment) -> str:
    spec = obj["spec"]
    addresses = list(spec.get("externalIPs") or ())
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    if spec.get("type") == "LoadBalancer":
        return joined([*_balancers(obj), *addresses]) or "<pending>"
    return joined(addresses) or NONE


def _balancers(obj: JsonObject) -> list[str]:
    """The addresses of a load balancer, each once and in order."""
    listed = at(obj, "status", "loadBalancer", "ingress", default=())
    given = {one.get("ip") or one.get("hostname", "") for one in listed}
    return sorted(given - {""})


def ports(obj: JsonObject, moment: Moment) -> str:
    listed = []
    for port in at(obj, "spec", "ports", default=()):
        text = str(port["port"])
        if port.get("nodePort"):
            text += f":{port['nodePort']}"
        listed.append(f"{text}/{port.get('protocol', 'TCP')}")
    return ",".join(listed) or NONE


# Nodes

_ROLE = "node-role.kubernetes.io/"


def node_status(obj: JsonObject, moment: Moment) -> str:
    ready = next((one for one in at(obj, "status", "conditions", default=()) if one["type"] == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready["status"] == "True" else "NotReady"]
    if at(obj, "spec", "unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def node_roles(obj: JsonObject, moment: Moment) -> str:
    found = set()
    for key, value in (obj["metadata"].get("labels") or {}).items():
        if key.startswith(_ROLE) and len(key) > len(_ROLE):
            found.add(key.removeprefix(_ROLE))
        elif key == "kubernetes.io/role" and value:
            found.add(value)
    return ",".join(sorted(found)) or NONE


def node_address(kind: str) -> Any:
    def cell(obj: JsonObject, moment: Moment) -> str:
        listed = at(obj, "status", "addresses", default=())
        return next((one["address"] for one in listed if one["type"] == kind), NONE)

    return cell


def node_info(key: str) -> Any:
    def cell(obj: JsonObject, moment: Moment) -> str:
        return at(obj, "status", "nodeInfo", key) or UNKNOWN

    return cell


def node_kernel(obj: JsonObject, moment: Moment) -> str:
    kernel = at(obj, "status", "nodeInfo", "kernelVersion")
    machine = at(obj, "status", "nodeInfo", "architecture")
    if not kernel:
        return UNKNOWN
    return f"{kernel} ({machine})" if machine else kernel


# Workloads


def ready_of(obj: JsonObject, moment: Moment) -> str:
    return f"{at(obj, 'status', 'readyReplicas', default=0)}/{at(obj, 'spec', 'replicas', default=0)}"


def job_status(obj: JsonObject, moment: Moment) -> str:
    true = {one["type"] for one in at(obj, "status", "conditions", default=()) if one["status"] == "True"}
    for kind in ("Complete", "Failed"):
        if kind in true:
            return kind
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next(
        (kind for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet") if kind in true), "Running"
    )


def job_completions(obj: JsonObject, moment: Moment) -> str:
    done = at(obj, "status", "succeeded", default=0)
    wanted = at(obj, "spec", "completions", default=None)
    if wanted is not None:
        return f"{done}/{wanted}"
    parallel = at(obj, "spec", "parallelism", default=0)
    return f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"


def job_duration(obj: JsonObject, moment: Moment) -> str:
    start, end = at(obj, "status", "startTime"), at(obj, "status", "completionTime")
    if not start:
        return ""
    return between(start, end) if end else moment.since(start)


def last_schedule(obj: JsonObject, moment: Moment) -> str:
    time = at(obj, "status", "lastScheduleTime")
    return moment.since(time) if time else NONE


# Events


def _first_seen(obj: JsonObject, moment: Moment) -> str:
    return moment.since(_time(obj, "firstTimestamp", "deprecatedFirstTimestamp") or obj.get("eventTime"))


def _time(obj: JsonObject, *names: str) -> str | None:
    return next((obj[name] for name in names if obj.get(name)), None)


def event_first(obj: JsonObject, moment: Moment) -> str:
    return _first_seen(obj, moment)


def event_last(obj: JsonObject, moment: Moment) -> str:
    series = obj.get("series")
    if series:
        return moment.since(series.get("lastObservedTime"))
    last = _time(obj, "lastTimestamp", "deprecatedLastTimestamp")
    return moment.since(last) if last else _first_seen(obj, moment)


def event_count(obj: JsonObject, moment: Moment) -> int:
    if obj.get("series"):
        return int(obj["series"]["count"])
    return int(obj.get("count") or obj.get("deprecatedCount") or 1)


def _about(obj: JsonObject) -> JsonObject:
    about: JsonObject = obj.get("involvedObject") or obj.get("regarding") or {}
    return about


def event_object(obj: JsonObject, moment: Moment) -> str:
    about = _about(obj)
    kind = str(about.get("kind", "")).lower()
    return f"{kind}/{about['name']}" if about.get("name") else kind


def event_subobject(obj: JsonObject, moment: Moment) -> str:
    return str(_about(obj).get("fieldPath", ""))


def event_source(obj: JsonObject, moment: Moment) -> str:
    source = obj.get("source") or obj.get("deprecatedSource") or {}
    component = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController", "")
    host = source.get("host") or obj.get("reportingInstance", "")
    return f"{component}, {host}" if host else str(component)


def event_message(obj: JsonObject, moment: Moment) -> str:
    return str(obj.get("message") or obj.get("note", "")).strip()


# Network


def endpoints(obj: JsonObject, moment: Moment) -> str:
    listed: list[str] = []
    for subset in obj.get("subsets") or ():
        addresses = subset.get("addresses") or ()
        for port in subset.get("ports") or ():
            listed.extend(_host_port(one["ip"], port["port"]) for one in addresses)
        if not subset.get("ports"):
            listed.extend(one["ip"] for one in addresses)
    return _some(listed)


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _some(listed: list[str]) -> str:
    if not listed:
        return NONE
    shown = ",".join(listed[:3])
    return f"{shown} + {len(listed) - 3} more..." if len(listed) > 3 else shown


def slice_ports(obj: JsonObject, moment: Moment) -> str:
    listed = obj.get("ports")
    if not listed:
        return UNSET
    return _some(
        [str(port["port"]) if port.get("port") is not None else port.get("name", "*") for port in listed]
    )


def slice_endpoints(obj: JsonObject, moment: Moment) -> str:
    listed = [address for one in obj.get("endpoints") or () for address in one.get("addresses") or ()]
    return _some(listed) if listed else UNSET


def ingress_hosts(obj: JsonObject, moment: Moment) -> str:
    rules = at(obj, "spec", "rules", default=())
    hosts = [rule["host"] for rule in rules if rule.get("host")]
    if not hosts:
        return "*"
    shown = ",".join(hosts[:3])
    # Rules without a host count as well, once three hosts are listed: the real server counts so.
    listed = next((at_ + 1 for at_ in range(len(rules)) if _hosts_in(rules[: at_ + 1]) == 3), len(rules))
    return f"{shown} + {len(rules) - 3} more..." if len(rules) > listed else shown


def _hosts_in(rules: Sequence[JsonObject]) -> int:
    return sum(1 for rule in rules if rule.get("host"))


def ingress_address(obj: JsonObject, moment: Moment) -> str:
    return joined(_balancers(obj))


def ingress_ports(obj: JsonObject, moment: Moment) -> str:
    return "80, 443" if at(obj, "spec", "tls") else "80"


def class_parameters(obj: JsonObject, moment: Moment) -> str:
    """The parameters of an ingress class: `kind.group/name`."""
    ref = at(obj, "spec", "parameters", default=None)
    if ref is None:
        return NONE
    kind = f"{ref['kind']}.{ref['apiGroup']}" if ref.get("apiGroup") is not None else ref["kind"]
    return f"{kind}/{ref['name']}"


# Storage


def claim_status(obj: JsonObject, moment: Moment) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str(at(obj, "status", "phase"))


def claim_capacity(obj: JsonObject, moment: Moment) -> str:
    return str(at(obj, "status", "capacity", "storage")) if at(obj, "spec", "volumeName") else ""


def claim_modes(obj: JsonObject, moment: Moment) -> str:
    return access_modes(at(obj, "status", "accessModes", default=())) if at(obj, "spec", "volumeName") else ""


def volume_claim(obj: JsonObject, moment: Moment) -> str:
    ref = at(obj, "spec", "claimRef", default=None)
    return f"{ref.get('namespace', '')}/{ref.get('name', '')}" if ref else ""


def volume_modes(obj: JsonObject, moment: Moment) -> str:
    return access_modes(at(obj, "spec", "accessModes", default=()))


# Policies and quotas


def quota(section: str) -> Any:
    """requests or limits of a ResourceQuota: `cpu: 0/1, pods: 1/4`."""

    def cell(obj: JsonObject, moment: Moment) -> str:
        hard, used = at(obj, "status", "hard", default={}), at(obj, "status", "used", default={})
        return ", ".join(
            f"{name}: {used.get(name, '0')}/{hard[name]}"
            for name in sorted(hard)
            if name.startswith("limits.") == (section == "limits")
        )

    return cell


def param_kind(obj: JsonObject, moment: Moment) -> str:
    kind = at(obj, "spec", "paramKind", default=None)
    return UNSET if kind is None else f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}"


def param_reference(obj: JsonObject, moment: Moment) -> str:
    """What a binding takes its parameters from; without a namespace it may be any."""
    ref = at(obj, "spec", "paramRef", default={})
    if ref.get("name"):
        return f"{ref.get('namespace') or '*'}/{ref['name']}"
    if ref.get("selector") is None:
        return UNSET
    return go_selector(ref["selector"])


def go_selector(selector: JsonObject) -> str:
    """A label selector as Go's generated String() shows it."""
    labels = selector.get("matchLabels") or {}
    shown = "".join(f"{key}: {labels[key]}," for key in sorted(labels))
    terms = "".join(
        f"LabelSelectorRequirement{{Key:{one['key']},Operator:{one['operator']},"
        f"Values:[{' '.join(one.get('values') or ())}],}},"
        for one in selector.get("matchExpressions") or ()
    )
    listed = f"[]LabelSelectorRequirement{{{terms}}}"
    return f"&LabelSelector{{MatchLabels:map[string]string{{{shown}}},MatchExpressions:{listed},}}"


def subjects(kind: str) -> Any:
    def cell(obj: JsonObject, moment: Moment) -> str:
        named = [one for one in obj.get("subjects") or () if one["kind"] == kind]
        if kind == "ServiceAccount":
            return ", ".join(f"{one.get('namespace', '')}/{one['name']}" for one in named)
        return ", ".join(one["name"] for one in named)

    return cell


def role(obj: JsonObject, moment: Moment) -> str:
    ref = obj["roleRef"]
    return f"{ref['kind']}/{ref['name']}"


def scale_target(obj: JsonObject, moment: Moment) -> str:
    ref = at(obj, "spec", "scaleTargetRef", default={})
    return f"{ref.get('kind', '')}/{ref.get('name', '')}"


def scale_metrics(obj: JsonObject, moment: Moment) -> str:
    """The metrics of an autoscaler: `cpu: 10%/50%`."""
    metrics = at(obj, "spec", "metrics", default=())
    if not metrics:
        return NONE
    current = at(obj, "status", "currentMetrics", default=None) or []
    shown = [_metric(one, current[at_] if at_ < len(current) else {}) for at_, one in enumerate(metrics[:2])]
    more = len(metrics) - 2
    return ", ".join(shown) + (f" + {more} more..." if more > 0 else "")


def _metric(metric: JsonObject, current: JsonObject) -> str:
    kind = metric["type"]
    key = kind[0].lower() + kind[1:]
    source, now = metric.get(key) or {}, (current.get(key) or {}).get("current") or {}
    target = source.get("target") or {}
    title = f"{source['name']}: " if "name" in source else ""
    if target.get("averageUtilization") is not None:
        seen = now.get("averageUtilization")
        return f"{title}{UNKNOWN if seen is None else f'{seen}%'}/{target['averageUtilization']}%"
    wanted = target.get("averageValue") or target.get("value") or ""
    seen = now.get("averageValue") or now.get("value") or UNKNOWN
    suffix = " (avg)" if target.get("averageValue") and kind in ("External", "Object") else ""
    return f"{title}{seen}/{wanted}{suffix}"


def signing_condition(obj: JsonObject, moment: Moment) -> str:
    kinds = {one["type"] for one in at(obj, "status", "conditions", default=())}
    words = [next((kind for kind in ("Denied", "Approved") if kind in kinds), "Pending")]
    if "Failed" in kinds:
        words.append("Failed")
    if at(obj, "status", "certificate"):
        words.append("Issued")
    return ",".join(words)


def signing_duration(obj: JsonObject, moment: Moment) -> str:
    seconds = at(obj, "spec", "expirationSeconds", default=None)
    return NONE if seconds is None else human(int(seconds))


def available(obj: JsonObject, moment: Moment) -> str:
    found = next(
        (one for one in at(obj, "status", "conditions", default=()) if one["type"] == "Available"), None
    )
    if found is None:
        return "Unknown"
    return "True" if found["status"] == "True" else f"{found['status']} ({found.get('reason', '')})"
