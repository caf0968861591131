"""The environment of a container's processes. Pure, but for the few variables that are taken over from the daemon.

Lowest to highest: what a plain process needs here (PATH, HOME, ...), the services of the namespace as Kubernetes has
always announced them, `envFrom`, `env`. Of the user's own environment only what says how to reach the network and the
package index is passed on; tokens, keys and settings of the user's shell are not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubesim.kubelet.expansion import expand
from kubesim.kubelet.podfields import FieldError, field_value, resource_value

PASSED_ON = (
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ"),
    *(
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "LD_LIBRARY_PATH"),
    *(
        "PIP_INDEX_URL",
        "PIP_EXTRA_INDEX_URL",
        "PIP_FIND_LINKS",
        "PIP_NO_INDEX",
        "PIP_TRUSTED_HOST",
        "PIP_CERT",
    ),
    *("PIP_PROXY", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES", "PIP_CONFIG_FILE"),
    *("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS"),
)
STANDARD_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class ConfigError(Exception):
    """The container's configuration cannot be completed: it waits with the reason CreateContainerConfigError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What an environment may refer to, already read. A missing object is absent from its mapping."""

    config_maps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    claims: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # the spec of each one's volume
    services: Iterable[Mapping[str, Any]] = ()
    pod_ip: str = ""
    host_ip: str = ""
    allocatable: Mapping[str, str] = field(default_factory=dict)


def host_variables(environ: Mapping[str, str], user_home: Path) -> dict[str, str]:
    """What is taken over from the daemon's environment, and where pip finds the user's choice of index."""
    taken = {name: environ[name] for name in PASSED_ON if environ.get(name)}
    if "PIP_CONFIG_FILE" not in taken:
        for place in (".config/pip/pip.conf", ".pip/pip.conf"):
            if (user_home / place).is_file():
                taken["PIP_CONFIG_FILE"] = str(user_home / place)
                break
    taken.setdefault("LANG", "C.UTF-8")
    return taken


def host_path(environ: Mapping[str, str], user_home: Path) -> list[str]:
    """The folders with the machine's programs: the daemon's PATH without any Python that is the user's own."""
    folders = [folder for folder in environ.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)]
    kept = [folder for folder in folders if not _holds_users_python(Path(folder), user_home)]
    return list(dict.fromkeys([*kept, *STANDARD_PATH]))


def _holds_users_python(folder: Path, user_home: Path) -> bool:
    """Whether a folder belongs to a virtual environment, or is the user's and has a python or pip (pyenv, conda)."""
    if (folder.parent / "pyvenv.cfg").exists():
        return True
    if not folder.is_relative_to(user_home):
        return False
    return any(found for name in ("python*", "pip*") for found in folder.glob(name))


def build(pod: Mapping[str, Any], container: Mapping[str, Any], sources: Sources) -> dict[str, str]:
    """What Kubernetes says about the environment of a container: services, envFrom, env. Raises ConfigError."""
    spec = pod.get("spec", {})
    variables = service_variables(sources.services, spec.get("enableServiceLinks", True) is not False)
    for source in container.get("envFrom") or ():
        variables.update(_from_source(source, sources, pod))
    declared: dict[str, str] = {}
    for entry in container.get("env") or ():
        name = entry["name"]
        if entry.get("valueFrom"):
            value = _from_reference(entry["valueFrom"], pod, container, sources)
            if value is None:
                continue
        else:
            value = expand(str(entry.get("value") or ""), {**variables, **declared})
        declared[name] = value
    return {**variables, **declared}


def service_variables(services: Iterable[Mapping[str, Any]], links: bool) -> dict[str, str]:
    """The variables of services with a cluster IP: of all of the namespace, or of `kubernetes` only."""
    found: dict[str, str] = {}
    for service in services:
        metadata, spec = service.get("metadata", {}), service.get("spec", {})
        address = spec.get("clusterIP")
        ports = spec.get("ports") or []
        is_api = metadata.get("name") == "kubernetes" and metadata.get("namespace") == "default"
        if address in (None, "", "None") or not ports or not (links or is_api):
            continue
        prefix = str(metadata.get("name", "")).upper().replace("-", "_")
        found[f"{prefix}_SERVICE_HOST"] = address
        found[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        for index, port in enumerate(ports):
            protocol = str(port.get("protocol") or "TCP")
            number = str(port["port"])
            if port.get("name"):
                found[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = number
            url = f"{protocol.lower()}://{address}:{number}"
            if index == 0:
                found[f"{prefix}_PORT"] = url
            one = f"{prefix}_PORT_{number}_{protocol.upper()}"
            found |= {
                one: url,
                f"{one}_PROTO": protocol.lower(),
                f"{one}_PORT": number,
                f"{one}_ADDR": address,
            }
    return found


def _from_source(source: Mapping[str, Any], sources: Sources, pod: Mapping[str, Any]) -> dict[str, str]:
    prefix = source.get("prefix") or ""
    for key, kind, objects in (
        ("configMapRef", "configmap", sources.config_maps),
        ("secretRef", "secret", sources.secrets),
    ):
        reference = source.get(key)
        if not reference:
            continue
        held = objects.get(reference["name"])
        if held is None:
            if reference.get("optional"):
                return {}
            raise ConfigError(f'{kind} "{reference["name"]}" not found')
        return {prefix + name: text(value) for name, value in held.items()}
    return {}


def _from_reference(
    reference: Mapping[str, Any], pod: Mapping[str, Any], container: Mapping[str, Any], sources: Sources
) -> str | None:
    try:
        if chosen := reference.get("fieldRef"):
            return field_value(dict(pod), chosen["fieldPath"], pod_ip=sources.pod_ip, host_ip=sources.host_ip)
        if chosen := reference.get("resourceFieldRef"):
            return resource_value(dict(container), chosen, dict(sources.allocatable))
    except FieldError as error:
        raise ConfigError(str(error)) from None
    namespace = pod.get("metadata", {}).get("namespace", "")
    for key, kind, objects in (
        ("configMapKeyRef", "configmap", sources.config_maps),
        ("secretKeyRef", "secret", sources.secrets),
    ):
        chosen = reference.get(key)
        if not chosen:
            continue
        held = objects.get(chosen["name"])
        if held is not None and chosen["key"] in held:
            return text(held[chosen["key"]])
        if chosen.get("optional"):
            return None
        if held is None:
            raise ConfigError(f'{kind} "{chosen["name"]}" not found')
        title = "ConfigMap" if kind == "configmap" else "Secret"
        raise ConfigError(f"couldn't find key {chosen['key']} in {title} {namespace}/{chosen['name']}")
    raise ConfigError("an entry of env has a valueFrom that this kubelet does not know")


def text(value: str | bytes) -> str:
    """A value as an environment variable; bytes that are no text survive as surrogates."""
    return value if isinstance(value, str) else os.fsdecode(value)
