"""From a path to what it names. Pure: whether such a resource exists is asked elsewhere.

/api/v1/pods                              all pods
/apis/apps/v1/namespaces/N/deployments/D/status
/api/v1/namespaces/N                      the namespace itself ...
/api/v1/namespaces/N/finalize             ... and its subresources
/api/v1/watch/...                         the old form of watches, for all of these
"""

from __future__ import annotations

from dataclasses import dataclass

_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A path below a group and version."""

    group: str
    version: str
    plural: str = ""
    """Empty for the group and version itself."""
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None
    rest: str = ""
    """What follows the subresource (of a proxy)."""
    watch: bool = False
    """The path has the old `watch` prefix."""


def parse_route(path: str) -> Route | None:
    """The resource that a path names; None for paths that are not below a group and version."""
    parts = path.strip("/").split("/")
    if len(parts) >= 2 and parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    elif len(parts) >= 3 and parts[0] == "apis":
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    watch = bool(rest) and rest[0] == "watch"
    if watch:
        rest = rest[1:]
    namespace = None
    if len(rest) >= 2 and rest[0] == "namespaces":
        if len(rest) == 2 or (len(rest) == 3 and rest[2] in _NAMESPACE_SUBRESOURCES):
            # The namespace itself: its own name is also the namespace that rules apply in.
            return Route(
                group=group,
                version=version,
                plural="namespaces",
                name=rest[1],
                subresource=rest[2] if len(rest) == 3 else None,
                watch=watch,
            )
        namespace, rest = rest[1], rest[2:]
    return Route(
        group=group,
        version=version,
        plural=rest[0] if rest else "",
        namespace=namespace,
        name=rest[1] if len(rest) > 1 else None,
        subresource=rest[2] if len(rest) > 2 else None,
        rest="/".join(rest[3:]),
        watch=watch,
    )
