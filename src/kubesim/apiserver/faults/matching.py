"""Whether a fault is meant by a request. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from kubesim.apiserver.faults.spec import Match


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What can be seen of a request before anything is done for it."""

    verb: str
    path: str
    group: str = ""
    resource: str = ""
    """The plural; empty for what is no resource."""
    called: frozenset[str] = frozenset()
    """Everything that the resource is called, in lower case."""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    user_agent: str = ""
    user: str = ""
    channel: bool = False
    """A WebSocket."""

    @property
    def group_resource(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


def fits(match: Match, seen: Seen) -> bool:
    """Whether all that is named fits."""
    if match.verbs and seen.verb not in match.verbs:
        return False
    about_resource = match.groups or match.resources or match.subresources or match.namespaces or match.names
    if about_resource and not (seen.resource and _fits_resource(match, seen)):
        return False
    return (
        _one(match.paths, seen.path)
        and _one(match.users, seen.user)
        and (not match.user_agents or any(_agent(one, seen.user_agent) for one in match.user_agents))
    )


def _fits_resource(match: Match, seen: Seen) -> bool:
    return (
        (not match.groups or seen.group in match.groups or (not seen.group and "core" in match.groups))
        and (not match.resources or any(one.lower() in seen.called for one in match.resources))
        and (not match.subresources or seen.subresource in match.subresources)
        and _one(match.namespaces, seen.namespace)
        and _one(match.names, seen.name)
    )


def _one(patterns: Iterable[str], value: str) -> bool:
    patterns = tuple(patterns)
    return not patterns or any(fnmatchcase(value, pattern) for pattern in patterns)


def _agent(pattern: str, agent: str) -> bool:
    """`kubectl` is every version of kubectl: what has no wildcard is the beginning."""
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(agent, pattern)
    return agent.startswith(pattern)
