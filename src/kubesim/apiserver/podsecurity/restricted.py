"""The checks that the level restricted adds. One function each: detail, or empty."""

from __future__ import annotations

from kubesim.apiserver.podsecurity.baseline import forbidden_seccomp
from kubesim.apiserver.podsecurity.pods import containers, is_windows, named, quoted_list, security
from kubesim.apiserver.requests import JsonObject

_VOLUMES = frozenset(
    (
        *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"),
        *("secret", "image"),
    )
)


def escalation(meta: JsonObject, spec: JsonObject) -> str:
    if is_windows(spec):
        return ""
    guilty = [
        one["name"] for one in containers(spec) if security(one).get("allowPrivilegeEscalation") is not False
    ]
    if not guilty:
        return ""
    return f"{named('container', guilty)} must set securityContext.allowPrivilegeEscalation=false"


def capabilities(meta: JsonObject, spec: JsonObject) -> str:
    if is_windows(spec):
        return ""
    keeping: list[str] = []
    adding: list[str] = []
    wrong: set[str] = set()
    for one in containers(spec):
        given = security(one).get("capabilities") or {}
        if "ALL" not in (given.get("drop") or ()):
            keeping.append(one["name"])
        added = set(given.get("add") or ()) - {"NET_BIND_SERVICE"}
        if added:
            adding.append(one["name"])
            wrong |= added
    found = []
    if keeping:
        found.append(f'{named("container", keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        what = quoted_list(wrong)
        found.append(
            f"{named('container', adding)} must not include {what} in securityContext.capabilities.add"
        )
    return "; ".join(found)


def volumes(meta: JsonObject, spec: JsonObject) -> str:
    guilty: list[str] = []
    kinds: set[str] = set()
    for one in spec.get("volumes") or ():
        wrong = {key for key, value in one.items() if key != "name" and value is not None} - _VOLUMES
        if wrong:
            guilty.append(one["name"])
            kinds |= wrong
    if not guilty:
        return ""
    use = "uses" if len(guilty) == 1 else "use"
    what = "restricted volume type" if len(kinds) == 1 else "restricted volume types"
    return f"{named('volume', guilty)} {use} {what} {quoted_list(kinds)}"


def non_root(meta: JsonObject, spec: JsonObject) -> str:
    if spec.get("hostUsers") is False:
        return ""
    whole = (spec.get("securityContext") or {}).get("runAsNonRoot")
    found = ["pod must not set securityContext.runAsNonRoot=false"] if whole is False else []
    against = [one["name"] for one in containers(spec) if security(one).get("runAsNonRoot") is False]
    silent = [one["name"] for one in containers(spec) if security(one).get("runAsNonRoot") is None]
    if against:
        found.append(f"{named('container', against)} must not set securityContext.runAsNonRoot=false")
    if silent and not found and whole is not True:
        found.append(f"pod or {named('container', silent)} must set securityContext.runAsNonRoot=true")
    return " and ".join(found)


def user(meta: JsonObject, spec: JsonObject) -> str:
    if spec.get("hostUsers") is False:
        return ""
    found = ["pod"] if (spec.get("securityContext") or {}).get("runAsUser") == 0 else []
    guilty = [one["name"] for one in containers(spec) if security(one).get("runAsUser") == 0]
    if guilty:
        found.append(named("container", guilty))
    return f"{' and '.join(found)} must not set runAsUser=0" if found else ""


def seccomp(meta: JsonObject, spec: JsonObject) -> str:
    if is_windows(spec):
        return ""
    found = list(forbidden_seccomp(spec))
    whole = ((spec.get("securityContext") or {}).get("seccompProfile") or {}).get("type")
    silent = [
        one["name"] for one in containers(spec) if not (security(one).get("seccompProfile") or {}).get("type")
    ]
    if silent and not found and not whole:
        what = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
        found.append(f"pod or {named('container', silent)} {what}")
    return " and ".join(found)
