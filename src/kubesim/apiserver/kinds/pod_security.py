"""The security contexts of pods and containers: identities, profiles, sysctls, what an operating system excludes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kubesim.errors import (
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)

ID_RANGE = "must be between 0 and 2147483647, inclusive"
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = rf"({_SEGMENT}[\./])*{_SEGMENT}"
_SYSCTL_LIMIT = 253
_SYSCTL_RULE = f"must have at most {_SYSCTL_LIMIT} characters and match regex ^{_SYSCTL}$"
_ESCALATION = "cannot set `allowPrivilegeEscalation` to false and "
_KINDS = ("initContainers", "containers", "ephemeralContainers")
_WINDOWS_POD = ("hostUsers", "hostPID", "hostIPC", "shareProcessNamespace")
_WINDOWS_CONTEXT = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls", "runAsUser",
    "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy",
)  # fmt: skip
_WINDOWS_CONTAINER = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged",
    "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup",
)  # fmt: skip
_HOST_SYSCTLS = {
    "hostNetwork": ("net.",),
    "hostIPC": ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."),
}


def _identities(context: JsonObject, path: str) -> Iterator[FieldError]:
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        value = context.get(key)
        if value is not None and not 0 <= value < 2**31:
            yield invalid_value(f"{path}.{key}", value, ID_RANGE)
    for at, group in enumerate(context.get("supplementalGroups") or ()):
        if not 0 <= group < 2**31:
            yield invalid_value(f"{path}.supplementalGroups[{at}]", group, ID_RANGE)


def _profiles(context: JsonObject, path: str) -> Iterator[FieldError]:
    """Seccomp and AppArmor: both name a profile of the node only when they say so."""
    for key, title in (("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")):
        profile = context.get(key)
        if profile is None:
            continue
        kind, name, here = profile.get("type", ""), profile.get("localhostProfile"), f"{path}.{key}"
        if not kind:
            yield required(f"{here}.type", f"type is required when {key} is set")
        elif kind not in _PROFILES:
            yield not_supported(f"{here}.type", kind, _PROFILES)
        if kind != "Localhost" and name is not None:
            why = f"can only be set when {title} type is Localhost"
            shown = profile if key == "seccompProfile" else name
            yield invalid_value(f"{here}.localhostProfile", shown, why)
        elif kind == "Localhost" and not (name or "").strip():
            yield required(f"{here}.localhostProfile", f"must be set when {title} type is Localhost")
        elif kind == "Localhost" and key == "seccompProfile":
            yield from _below(name, f"{here}.localhostProfile")
        elif kind == "Localhost" and name != name.strip():
            yield invalid_value(f"{here}.localhostProfile", name, "must not be padded with whitespace")


def _below(text: str, path: str) -> Iterator[FieldError]:
    if text.startswith("/"):
        yield invalid_value(path, text, "must be a relative path")
    if ".." in text.split("/"):
        yield invalid_value(path, text, "must not contain '..'")


def _sysctls(spec: JsonObject, listed: list[JsonObject], path: str) -> Iterator[FieldError]:
    names: set[str] = set()
    for at, one in enumerate(listed):
        name, here = one.get("name", ""), f"{path}[{at}].name"
        if not name:
            yield required(here)
        elif len(name) > _SYSCTL_LIMIT or not re.fullmatch(_SYSCTL, name, re.ASCII):
            yield invalid_value(here, name, _SYSCTL_RULE)
        elif name in names:
            yield duplicate(here, name)
        names.add(name)
        for key, prefixes in _HOST_SYSCTLS.items():
            if spec.get(key) and name.replace("/", ".").startswith(prefixes):
                yield invalid_value(here, name, f"may not be specified when '{key}' is true")


_CHOICES = (
    ("fsGroupChangePolicy", ("Always", "OnRootMismatch")),
    ("supplementalGroupsPolicy", ("Merge", "Strict")),
    ("seLinuxChangePolicy", ("MountOption", "Recursive")),
)


def pod_context(spec: JsonObject, path: str) -> Iterator[FieldError]:
    """The security context of a pod, and the namespaces that it shares with its node."""
    context, here = spec.get("securityContext") or {}, f"{path}.securityContext"
    yield from _identities(context, here)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        why = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield invalid_value(f"{here}.shareProcessNamespace", True, why)
    yield from _sysctls(spec, context.get("sysctls") or [], f"{here}.sysctls")
    for key, supported in _CHOICES:
        if context.get(key) is not None and context[key] not in supported:
            yield not_supported(f"{here}.{key}", context[key], supported)
    yield from _profiles(context, here)
    if spec.get("hostUsers") is False:
        for key, shown in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
            if spec.get(key):
                yield forbidden_field(f"{path}.{shown}", "when `pod.Spec.HostUsers` is false")


def container_context(context: JsonObject, path: str) -> Iterator[FieldError]:
    yield from _identities(context, path)
    mount = context.get("procMount")
    if mount is not None and mount not in ("Default", "Unmasked"):
        yield not_supported(f"{path}.procMount", mount, ("Default", "Unmasked"))
    yield from _profiles(context, path)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            yield invalid_value(path, context, _ESCALATION + "`privileged` to true")
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            yield invalid_value(path, context, _ESCALATION + "`capabilities.Add` CAP_SYS_ADMIN")


def operating_system(spec: JsonObject, path: str) -> Iterator[FieldError]:
    """What a pod for one operating system cannot have."""
    if spec.get("os") is None:
        return
    name = spec["os"].get("name", "")
    if not name:
        yield required(f"{path}.os.name", "cannot be empty")
    elif name not in ("linux", "windows"):
        yield not_supported(f"{path}.os", name, ("linux", "windows"))
    elif name == "linux":
        yield from _excluded(spec, path, ("windowsOptions",), ("windowsOptions",), "windows options", "linux")
    else:
        why = "cannot be set for a windows pod"
        for key in _WINDOWS_POD:
            if spec.get(key) is not None and (key in ("hostUsers", "shareProcessNamespace") or spec[key]):
                yield forbidden_field(f"{path}.{key}", why)
        yield from _excluded(spec, path, _WINDOWS_CONTEXT, _WINDOWS_CONTAINER, "", "windows")


def _excluded(
    spec: JsonObject,
    path: str,
    of_pod: tuple[str, ...],
    of_container: tuple[str, ...],
    what: str,
    system: str,
) -> Iterator[FieldError]:
    why = f"{what} cannot be set for a {system} pod".lstrip()
    places = [(spec.get("securityContext") or {}, of_pod, f"{path}.securityContext")]
    for kind in _KINDS:
        for at, one in enumerate(spec.get(kind) or ()):
            context = one.get("securityContext") or {}
            places.append((context, of_container, f"{path}.{kind}[{at}].securityContext"))
    for context, keys, here in places:
        yield from (forbidden_field(f"{here}.{key}", why) for key in keys if context.get(key) is not None)
