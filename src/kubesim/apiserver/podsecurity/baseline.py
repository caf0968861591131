"""The checks of the level baseline, which also hold at the level restricted. One function each: detail, or empty."""

from __future__ import annotations

from collections.abc import Iterator

from kubesim.apiserver.podsecurity.pods import containers, named, quoted_list, security
from kubesim.apiserver.requests import JsonObject

_CAPABILITIES = frozenset(
    (
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
        *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)
_SELINUX = frozenset(("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"))
_SYSCTLS = frozenset(
    (
        *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies"),
        *(
            "net.ipv4.ping_group_range",
            "net.ipv4.ip_unprivileged_port_start",
            "net.ipv4.ip_local_reserved_ports",
        ),
        *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
        *("net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
    )
)
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def app_armor(meta: JsonObject, spec: JsonObject) -> str:
    found: list[str] = []
    if _unconfined(spec.get("securityContext")):
        found.append('pod must not set AppArmor profile type to "Unconfined"')
    guilty = [one["name"] for one in containers(spec) if _unconfined(one.get("securityContext"))]
    if guilty:
        found.append(f'{named("container", guilty)} must not set AppArmor profile type to "Unconfined"')
    notes = sorted(
        f'{key}="{value}"'
        for key, value in (meta.get("annotations") or {}).items()
        if key.startswith(_APPARMOR)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    if notes:
        found.append(f"{'annotation' if len(notes) == 1 else 'annotations'} {', '.join(notes)}")
    return ", ".join(found)


def _unconfined(context: JsonObject | None) -> bool:
    return ((context or {}).get("appArmorProfile") or {}).get("type") == "Unconfined"


def capabilities(meta: JsonObject, spec: JsonObject) -> str:
    guilty: list[str] = []
    wrong: set[str] = set()
    for one in containers(spec):
        added = set((security(one).get("capabilities") or {}).get("add") or ()) - _CAPABILITIES
        if added:
            guilty.append(one["name"])
            wrong |= added
    if not guilty:
        return ""
    return f"{named('container', guilty)} must not include {quoted_list(wrong)} in securityContext.capabilities.add"


def host_namespaces(meta: JsonObject, spec: JsonObject) -> str:
    return ", ".join(f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key))


def host_paths(meta: JsonObject, spec: JsonObject) -> str:
    guilty = [one["name"] for one in spec.get("volumes") or () if one.get("hostPath") is not None]
    return named("volume", guilty) if guilty else ""


def host_ports(meta: JsonObject, spec: JsonObject) -> str:
    guilty: list[str] = []
    ports: set[int] = set()
    for one in containers(spec):
        used = {port["hostPort"] for port in one.get("ports") or () if port.get("hostPort")}
        if used:
            guilty.append(one["name"])
            ports |= used
    if not guilty:
        return ""
    use = "uses" if len(guilty) == 1 else "use"
    what = "hostPort" if len(ports) == 1 else "hostPorts"
    return f"{named('container', guilty)} {use} {what} {', '.join(map(str, sorted(ports)))}"


def privileged(meta: JsonObject, spec: JsonObject) -> str:
    guilty = [one["name"] for one in containers(spec) if security(one).get("privileged")]
    return f"{named('container', guilty)} must not set securityContext.privileged=true" if guilty else ""


def proc_mount(meta: JsonObject, spec: JsonObject) -> str:
    if spec.get("hostUsers") is False:
        return ""
    guilty = [one for one in containers(spec) if security(one).get("procMount") not in (None, "Default")]
    if not guilty:
        return ""
    kinds = quoted_list({security(one)["procMount"] for one in guilty})
    names = [one["name"] for one in guilty]
    return f"{named('container', names)} must not set securityContext.procMount to {kinds}"


def se_linux(meta: JsonObject, spec: JsonObject) -> str:
    setters: list[str] = []
    types: set[str] = set()
    fields: set[str] = set()

    def bad(context: JsonObject | None) -> bool:
        options = (context or {}).get("seLinuxOptions") or {}
        wrong = options.get("type", "") not in _SELINUX
        if wrong:
            types.add(options["type"])
        also = {key for key in ("user", "role") if options.get(key)}
        fields.update(also)
        return wrong or bool(also)

    if bad(spec.get("securityContext")):
        setters.append("pod")
    guilty = [one["name"] for one in containers(spec) if bad(one.get("securityContext"))]
    if guilty:
        setters.append(named("container", guilty))
    if not setters:
        return ""
    words = [f"{'type' if len(types) == 1 else 'types'} {quoted_list(types)}"] if types else []
    words += [f"{key} may not be set" for key in ("user", "role") if key in fields]
    return f"{' and '.join(setters)} set forbidden securityContext.seLinuxOptions: {'; '.join(words)}"


def seccomp(meta: JsonObject, spec: JsonObject) -> str:
    return " and ".join(forbidden_seccomp(spec))


def forbidden_seccomp(spec: JsonObject) -> Iterator[str]:
    """What sets a profile that is none."""

    def unconfined(context: JsonObject) -> bool:
        return (context.get("seccompProfile") or {}).get("type") == "Unconfined"

    if unconfined(spec.get("securityContext") or {}):
        yield 'pod must not set securityContext.seccompProfile.type to "Unconfined"'
    guilty = [one["name"] for one in containers(spec) if unconfined(security(one))]
    if guilty:
        yield f'{named("container", guilty)} must not set securityContext.seccompProfile.type to "Unconfined"'


def sysctls(meta: JsonObject, spec: JsonObject) -> str:
    listed = (spec.get("securityContext") or {}).get("sysctls") or ()
    return ", ".join(one["name"] for one in listed if one["name"] not in _SYSCTLS)


def windows_host_process(meta: JsonObject, spec: JsonObject) -> str:
    def hosted(context: JsonObject | None) -> bool:
        return bool(((context or {}).get("windowsOptions") or {}).get("hostProcess"))

    setters = ["pod"] if hosted(spec.get("securityContext")) else []
    guilty = [one["name"] for one in containers(spec) if hosted(one.get("securityContext"))]
    if guilty:
        setters.append(named("container", guilty))
    if not setters:
        return ""
    return f"{' and '.join(setters)} must not set securityContext.windowsOptions.hostProcess=true"
