"""At each start the default roles and bindings are brought to what they should be, as the real server does.

What somebody has added stays, what is missing comes back, and an object whose annotation
`rbac.authorization.kubernetes.io/autoupdate` is not "true" is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kubesim.apiserver.rbac import defaults
from kubesim.apiserver.rbac.rules import aggregated, missing
from kubesim.apiserver.requests import JsonObject

Look = Callable[[str, str], JsonObject | None]
"""An RBAC object by resource and key, or None."""
Write = Callable[[str, JsonObject, bool], Awaitable[None]]
"""Store an object of a resource: a new one, or (True) in place of the one there is."""

_AUTO = "rbac.authorization.kubernetes.io/autoupdate"


async def reconcile(look: Look, write: Write) -> None:
    """Make or mend all of them, side by side."""
    roles = defaults.cluster_roles()
    for role in roles:
        if "aggregationRule" in role:
            role["rules"] = aggregated(role, roles)
    wanted = [
        ("clusterroles", roles),
        ("clusterrolebindings", defaults.cluster_role_bindings()),
        ("roles", defaults.roles()),
        ("rolebindings", defaults.role_bindings()),
    ]
    writes = []
    for resource, objects in wanted:
        for obj in objects:
            meta = obj["metadata"]
            found = look(resource, f"{meta.get('namespace', '')}/{meta['name']}")
            if found is None:
                writes.append(write(resource, obj, False))
                continue
            mended = _mended(found, obj)
            if mended is not None:
                writes.append(write(resource, mended, True))
    await asyncio.gather(*writes)


def _mended(found: JsonObject, wanted: JsonObject) -> JsonObject | None:
    """The object with what it lacks; None when it lacks nothing or is to be left alone."""
    if (found["metadata"].get("annotations") or {}).get(_AUTO) != "true":
        return None
    if "roleRef" in wanted:
        if found["roleRef"] != wanted["roleRef"]:
            return None
        given = found.get("subjects") or []
        lacking = [one for one in wanted["subjects"] if one not in given]
        return {**found, "subjects": [*given, *lacking]} if lacking else None
    if "aggregationRule" in wanted:  # its rules are its controller's
        same = found.get("aggregationRule") == wanted["aggregationRule"]
        return None if same else {**found, "aggregationRule": wanted["aggregationRule"]}
    lost = missing(found.get("rules") or [], wanted["rules"])
    return {**found, "rules": [*(found.get("rules") or []), *lost]} if lost else None
