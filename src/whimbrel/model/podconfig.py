"""`pod_config`: a piece of a pod that is laid over ours, merged as Kubernetes itself merges a patch of a pod. Pure.

Maps are merged key by key, and `null` takes a key away. Lists that Kubernetes knows by a key (containers by name,
variables by name, mounts by path, ...) are merged item by item; other lists are replaced, except tolerations, which are
added: whoever tolerates one more taint does not stop to tolerate that of the GPUs. A container without a name, or with
that of SkyPilot's, is ours.

What a pod must keep to be a node of ours (its command, its end) cannot be said here, and is refused by `problems`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CONTAINER = "node"
"""The name of our container."""
_OURS = ("", CONTAINER, "ray-node")  # the last is what SkyPilot's users write

_BY_KEY: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
_ADDED = ("tolerations",)

_NOT_YOURS: Mapping[str, str] = {
    "restartPolicy": "a node that has ended is not started again behind its jobs' back",
    "terminationGracePeriodSeconds": "",
    "hostname": "",
    "subdomain": "",
}
_NOT_YOUR_CONTAINERS = (
    "command",
    "args",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "tty",
    "stdin",
)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        there = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = merge(there if isinstance(there, Mapping) else {}, value)
        elif isinstance(value, list) and isinstance(there, list) and key in _ADDED:
            merged[key] = [*there, *(item for item in value if item not in there)]
        elif isinstance(value, list) and isinstance(there, list) and key in _BY_KEY:
            merged[key] = _merge_items(there, value, _BY_KEY[key], _known_name(key))
        else:
            merged[key] = value
    return merged


def layered(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two `pod_config`s as one: `null` stays, for it has something to say to the pod."""
    merged = merge(base, over)
    _keep_nulls(merged, over)
    return merged


def problems(config: Any) -> list[str]:
    """What of a `pod_config` cannot be honoured, as phrases that follow its name."""
    if not isinstance(config, Mapping):
        return ["must be a mapping, a piece of a pod (`spec: ...`)"]
    found = [
        f"cannot set '{key}'; it is a piece of a pod: `metadata` (labels, annotations) and `spec`"
        for key in config
        if key not in ("metadata", "spec", "apiVersion", "kind")
    ]
    metadata, spec = config.get("metadata"), config.get("spec")
    if metadata is not None:
        found += _metadata_problems(metadata)
    if spec is not None:
        found += _spec_problems(spec)
    return [*found, *_directives(config)]


def _metadata_problems(metadata: Any) -> list[str]:
    if not isinstance(metadata, Mapping):
        return ["has a 'metadata' that is no mapping"]
    return [
        f"cannot set 'metadata.{key}'; labels and annotations can be set"
        for key in metadata
        if key not in ("labels", "annotations")
    ]


def _spec_problems(spec: Any) -> list[str]:
    if not isinstance(spec, Mapping):
        return ["has a 'spec' that is no mapping"]
    found = [
        f"cannot set 'spec.{key}', which is whimbrel's own" + (f": {why}" if why else "")
        for key, why in _NOT_YOURS.items()
        if key in spec
    ]
    for field in _BY_KEY.keys() & spec.keys():
        found += _list_problems(spec[field], f"spec.{field}", _BY_KEY[field])
    containers = spec.get("containers")
    for index, container in enumerate(containers if isinstance(containers, list) else ()):
        if not isinstance(container, Mapping) or container.get("name", "") not in _OURS:
            continue
        if index and not container.get("name"):
            found.append(
                f"has no name in 'spec.containers[{index}]'; only the first may go without, which is ours"
            )
        found += [
            f"cannot set 'spec.containers[{index}].{key}': that is the node's own, and jobs are started beside it"
            for key in _NOT_YOUR_CONTAINERS
            if key in container
        ]
        for field in _BY_KEY.keys() & container.keys():
            found += _list_problems(container[field], f"spec.containers[{index}].{field}", _BY_KEY[field])
    return found


def _list_problems(value: Any, where: str, key: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        return [f"needs a list of mappings in '{where}'"]
    nameless = where == "spec.containers"
    return [
        f"has no '{key}' in '{where}[{index}]'"
        for index, item in enumerate(value)
        if key not in item and not nameless
    ]


def _directives(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        own = [
            f"has the patch directive '{key}', which is not supported"
            for key in value
            if str(key).startswith("$")
        ]
        return own + [problem for item in value.values() for problem in _directives(item)]
    if isinstance(value, list):
        return [problem for item in value for problem in _directives(item)]
    return []


def _known_name(field: str) -> Mapping[Any, str]:
    return dict.fromkeys(_OURS, CONTAINER) if field == "containers" else {}


def _merge_items(
    there: Sequence[Any], over: Sequence[Any], key: str, aliases: Mapping[Any, str]
) -> list[Any]:
    merged = list(there)
    places = {item.get(key): index for index, item in enumerate(there) if isinstance(item, Mapping)}
    for item in over:
        if not isinstance(item, Mapping):
            merged.append(item)
            continue
        name = aliases.get(item.get(key, ""), item.get(key))
        named = {**item, key: name}
        if name in places:
            merged[places[name]] = merge(merged[places[name]], named)
        else:
            places[name] = len(merged)
            merged.append(named)
    return merged


def _keep_nulls(merged: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if value is None:
            merged[key] = None
        elif isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            _keep_nulls(merged[key], value)
