"""What the answer to a pod, or to what makes pods, warns of: fields that do nothing, or not what it seems."""

from __future__ import annotations

from collections.abc import Iterator

from kubesim.errors import JsonObject, quoted
from kubesim.schema.quantity import NANO, parse

_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": (
        'deprecated since v1.17; use "topology.kubernetes.io/region" instead'
    ),
    "failure-domain.beta.kubernetes.io/zone": (
        'deprecated since v1.17; use "topology.kubernetes.io/zone" instead'
    ),
    "beta.kubernetes.io/instance-type": (
        'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead'
    ),
}
_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": (
        'non-functional in v1.16+; use the "priorityClassName" field instead'
    ),
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11, and disabled by default in v1.33+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
_SHOWN = {"storageos": "storageOS"}
_NULL = "a null labelSelector results in matching no pod"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def pod_warnings(spec: JsonObject, meta: JsonObject, path: str = "") -> list[str]:
    """The warnings for a pod, or for a template at a path such as `spec.template`."""
    base = f"{path}." if path else ""
    annotations = meta.get("annotations") or {}
    found = [*_placement(spec, f"{base}spec")]
    found += [
        f"{base}metadata.annotations[{key}]: {why}" for key, why in _ANNOTATIONS.items() if key in annotations
    ]
    found += _volumes(spec, f"{base}spec")
    found += _lists(spec, f"{base}spec")
    if _SECCOMP_POD in annotations and "seccompProfile" not in (spec.get("securityContext") or {}):
        found.append(f"{base}metadata.annotations[{_SECCOMP_POD}]: {_SECCOMP}")
    for one, here in _containers(spec, f"{base}spec"):
        key = _SECCOMP_CONTAINER + one["name"]
        if key in annotations and "seccompProfile" not in (one.get("securityContext") or {}):
            found.append(f"{base}metadata.annotations[{key}]: {_SECCOMP}")
        found += _amounts(one, here)
        found += _environment(one, here)
    found += _ports(spec, f"{base}spec")
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        why = "must be >= 0; negative values are invalid and will be treated as 1"
        found.append(f"{base}spec.terminationGracePeriodSeconds: {why}")
    return [*found, *_affinities(spec, f"{base}spec")]


def _containers(spec: JsonObject, path: str) -> Iterator[tuple[JsonObject, str]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for at, one in enumerate(spec.get(kind) or ()):
            yield one, f"{path}.{kind}[{at}]"


def _placement(spec: JsonObject, path: str) -> Iterator[str]:
    for key in spec.get("nodeSelector") or ():
        if key in _NODE_LABELS:
            yield f"{path}.nodeSelector[{key}]: {_NODE_LABELS[key]}"
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = [
        (term, f"{path}.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms[{at}]")
        for at, term in enumerate((node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ())
    ]
    terms += [
        (one["preference"], f"{path}.affinity.nodeAffinity.{_PREFERRED}[{at}].preference")
        for at, one in enumerate(node.get(_PREFERRED) or ())
    ]
    for term, here in terms:
        for at, one in enumerate(term.get("matchExpressions") or ()):
            key = one["key"]
            if key in _NODE_LABELS:
                yield f"{here}.matchExpressions[{at}].key: {key} is {_NODE_LABELS[key]}"
    for at, one in enumerate(spec.get("topologySpreadConstraints") or ()):
        here, key = f"{path}.topologySpreadConstraints[{at}]", one["topologyKey"]
        if key in _NODE_LABELS:
            yield f"{here}.topologyKey: {key} is {_NODE_LABELS[key]}"
        if one.get("labelSelector") is None:
            yield f"{here}.labelSelector: {_NULL}"


def _affinities(spec: JsonObject, path: str) -> Iterator[str]:
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = (spec.get("affinity") or {}).get(kind) or {}
        for at, one in enumerate(terms.get(_REQUIRED) or ()):
            if one.get("labelSelector") is None:
                yield f"{path}.affinity.{kind}.{_REQUIRED}[{at}].labelSelector: {_NULL}"
        for at, one in enumerate(terms.get(_PREFERRED) or ()):
            if one["podAffinityTerm"].get("labelSelector") is None:
                yield f"{path}.affinity.{kind}.{_PREFERRED}[{at}].podAffinityTerm.labelSelector: {_NULL}"


def _volumes(spec: JsonObject, path: str) -> Iterator[str]:
    for at, one in enumerate(spec.get("volumes") or ()):
        for kind, why in _VOLUMES.items():
            if kind in one:
                yield f"{path}.volumes[{at}].{_SHOWN.get(kind, kind)}: {why}"


def _lists(spec: JsonObject, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for at, one in enumerate(spec.get("hostAliases") or ()):
        if one["ip"] in seen:
            yield f"{path}.hostAliases[{at}].ip: duplicate ip {quoted(one['ip'])}"
        seen.add(one["ip"])
    names: set[str] = set()
    secrets = [one.get("name") or "" for one in spec.get("imagePullSecrets") or ()]
    for at, name in enumerate(secrets):
        if name in names:
            yield f"{path}.imagePullSecrets[{at}].name: duplicate name {quoted(name)}"
        names.add(name)
    for at, name in enumerate(secrets):
        if not name:
            yield f'{path}.imagePullSecrets[{at}].name: invalid empty name ""'
    yield from _fractions(spec.get("overhead") or {}, f"{path}.overhead")


def _fractions(amounts: JsonObject, path: str) -> Iterator[str]:
    for name in ("memory", "ephemeral-storage"):
        if name in amounts and parse(amounts[name]).nanos % NANO:
            shown = quoted(amounts[name])
            yield f"{path}[{name}]: fractional byte value {shown} is invalid, must be an integer"


def _amounts(container: JsonObject, path: str) -> Iterator[str]:
    resources = container.get("resources") or {}
    for name in ("memory", "ephemeral-storage"):
        for part in ("limits", "requests"):
            amounts = resources.get(part) or {}
            if name in amounts:
                yield from _fractions({name: amounts[name]}, f"{path}.resources.{part}")


def _environment(container: JsonObject, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for at, one in enumerate(container.get("env") or ()):
        name, value = one["name"], one.get("value") or ""
        reference = f"$({name})"
        if name in seen and (
            one.get("valueFrom") is not None or value == reference or reference not in value
        ):
            why = f"hides previous definition of {quoted(name)}, which may be dropped when using apply"
            yield f"{path}.env[{at}]: {why}"
        seen.add(name)


def _ports(spec: JsonObject, path: str) -> Iterator[str]:
    seen: dict[tuple[int, str], list[tuple[JsonObject, str]]] = {}
    for container, at in _containers(spec, path):
        for number, port in enumerate(container.get("ports") or ()):
            here = f"{at}.ports[{number}]"
            others = seen.setdefault((port["containerPort"], port.get("protocol", "")), [])
            for other, there in others:
                word = _clash(port, other)
                if word:
                    yield f"{here}: {word} port definition with {there}"
            others.append((port, here))


def _clash(one: JsonObject, other: JsonObject) -> str:
    """How two definitions of one port and protocol are at odds, if they are."""
    ips = one.get("hostIP") or "", other.get("hostIP") or ""
    hosts = one.get("hostPort") or 0, other.get("hostPort") or 0
    if ips[0] == ips[1] and hosts[0] == hosts[1]:
        return "duplicate"
    if not all(hosts):
        return "overlapping"
    return "dangerously ambiguous" if hosts[0] == hosts[1] and not all(ips) and any(ips) else ""
