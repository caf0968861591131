"""What a pod refers to outside of itself, and reading it: config maps, secrets, claims, services, tokens.

Which names are referred to is pure (`referred`); `read` asks the API server for them, once per start of a container,
so that a container that waits for a missing object starts when it appears. Kubernetes errors other than "not found"
are the caller's to retry.
"""

from __future__ import annotations

import base64
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubesim.kubelet.containers import every_container
from kubesim.kubelet.environment import Sources
from kubesim.kubelet.volumes import claim_of, token_key
from kubewire.client import Client
from kubewire.errors import NotFound
from kubewire.resources import (
    CONFIG_MAPS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)

_TOKEN_LIFETIME = 3607  # what the admission of a real API server asks for


@dataclass(frozen=True, slots=True)
class Referred:
    """The names that a pod refers to."""

    config_maps: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()
    tokens: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def referred(pod: Mapping[str, Any]) -> Referred:
    """Everything that the environments and volumes of a pod refer to."""
    spec = pod.get("spec", {})
    config_maps: set[str] = set()
    secrets: set[str] = set()
    tokens: dict[str, Mapping[str, Any]] = {}
    for container in every_container(pod):
        for source in container.get("envFrom") or ():
            config_maps.update(_names(source.get("configMapRef"), "name"))
            secrets.update(_names(source.get("secretRef"), "name"))
        for entry in container.get("env") or ():
            origin = entry.get("valueFrom") or {}
            config_maps.update(_names(origin.get("configMapKeyRef"), "name"))
            secrets.update(_names(origin.get("secretKeyRef"), "name"))
    for part in _volume_parts(spec):
        config_maps.update(_names(part.get("configMap"), "name"))
        secrets.update(_names(part.get("secret"), "secretName", "name"))
        if (projection := part.get("serviceAccountToken")) is not None:
            tokens[token_key(projection)] = projection
    claims = {claim for volume in spec.get("volumes") or () if (claim := claim_of(pod, volume))}
    return Referred(frozenset(config_maps), frozenset(secrets), frozenset(claims), tokens)


async def read(
    client: Client, pod: Mapping[str, Any], *, pod_ip: str, host_ip: str, allocatable: Mapping[str, str]
) -> Sources:
    """The content of what a pod refers to; what is not found is left out."""
    namespace = pod["metadata"]["namespace"]
    names = referred(pod)
    config_maps = {}
    for name in names.config_maps:
        try:
            found = await client.get(CONFIG_MAPS, name, namespace)
        except NotFound:
            continue
        binary = {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        config_maps[name] = {**(found.get("data") or {}), **binary}
    secrets = {}
    for name in names.secrets:
        try:
            found = await client.get(SECRETS, name, namespace)
        except NotFound:
            continue
        secrets[name] = {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
    return Sources(
        config_maps=config_maps,
        secrets=secrets,
        claims=await _volumes_of(client, namespace, names.claims),
        services=await _services(client, namespace),
        pod_ip=pod_ip,
        host_ip=host_ip,
        allocatable=allocatable,
    )


async def request_tokens(
    client: Client, pod: Mapping[str, Any], *, but: Container[str] = ()
) -> dict[str, str]:
    """A service account token for each projection that wants one, but for those whose key is given."""
    tokens: dict[str, str] = {}
    metadata = pod["metadata"]
    account = pod.get("spec", {}).get("serviceAccountName") or "default"
    for key, projection in referred(pod).tokens.items():
        if key in but:
            continue
        spec: dict[str, Any] = {
            "expirationSeconds": projection.get("expirationSeconds") or _TOKEN_LIFETIME,
            "boundObjectRef": {
                "kind": "Pod",
                "apiVersion": "v1",
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }
        if projection.get("audience"):
            spec["audiences"] = [projection["audience"]]
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await client.create(
            SERVICE_ACCOUNTS, request, metadata["namespace"], name=account, subresource="token"
        )
        tokens[key] = answer["status"]["token"]
    return tokens


async def _volumes_of(client: Client, namespace: str, claims: frozenset[str]) -> dict[str, dict[str, Any]]:
    """The spec of the volume that each claim is bound to."""
    found = {}
    for name in claims:
        try:
            claim = await client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace)
            if claim.get("status", {}).get("phase") != "Bound":
                continue
            volume = await client.get(PERSISTENT_VOLUMES, claim["spec"]["volumeName"])
        except NotFound:
            continue
        found[name] = volume["spec"]
    return found


async def _services(client: Client, namespace: str) -> list[dict[str, Any]]:
    found = list((await client.list(SERVICES, namespace)).items)
    if namespace != "default":
        try:
            found.insert(0, await client.get(SERVICES, "kubernetes", "default"))
        except NotFound:
            return found
    return found


def _volume_parts(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for volume in spec.get("volumes") or ():
        yield volume
        yield from (volume.get("projected") or {}).get("sources") or ()


def _names(reference: Mapping[str, Any] | None, *keys: str) -> set[str]:
    return {str(reference[key]) for key in keys if reference.get(key)} if reference else set()
