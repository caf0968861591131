"""Who asks, and the words in which they are refused.

Three ways to say who one is: a client certificate that the cluster's authority signed, a bearer token that
the cluster knows, nothing (anonymous). Members of `system:masters` may do everything, and that is found out first;
about everybody else an Authorizer decides (`rbac.authorizer`).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from kubesim import errors
from kubesim.apiserver.requests import ANONYMOUS, User

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"

_EXTRA = "impersonate-extra-"


class TokenReader(Protocol):
    """Something that knows tokens, such as those of service accounts."""

    def user(self, token: str) -> User | None: ...


class Authenticator:
    """Client certificates come verified from TLS; tokens are looked up in turn."""

    def __init__(
        self,
        tokens: Mapping[str, User] | None = None,
        *,
        anonymous: bool = True,
    ) -> None:
        self._tokens = dict(tokens or {})
        self._readers: list[TokenReader] = []
        self._anonymous = anonymous
        self.authorizer: Authorizer | None = None
        """Who decides on impersonation; without one only `system:masters` may."""

    def add(self, reader: TokenReader) -> None:
        """Ask this one as well about tokens."""
        self._readers.append(reader)

    def authenticate(self, headers: Mapping[str, str], certificate_user: User | None) -> User:
        """Who asks, or whom they act for. Raises StatusError 401, 403."""
        return impersonated(self._presented(headers, certificate_user), headers, self.authorizer)

    def _presented(self, headers: Mapping[str, str], certificate_user: User | None) -> User:
        authorization = headers.get("authorization", "")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            user = self.token_user(token.strip())
            if user is not None:
                return user
            if certificate_user is None:
                raise errors.unauthorized()
        if certificate_user is not None:
            return certificate_user
        if not self._anonymous:
            raise errors.unauthorized()
        return ANONYMOUS

    def token_user(self, token: str) -> User | None:
        """The user of a bearer token, or None."""
        encoded = token.encode()
        for known, user in self._tokens.items():
            if hmac.compare_digest(known.encode(), encoded):
                return user
        for reader in self._readers:
            found = reader.user(token)
            if found is not None:
                return found
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What is to be done, in the words of authorization."""

    verb: str
    path: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def is_resource(self) -> bool:
        return bool(self.resource)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether somebody may, and why, where there is something to say about it."""

    allowed: bool
    reason: str = ""


ALLOWED = Decision(True)


class Authorizer(Protocol):
    """Who decides."""

    def decide(self, user: User, what: Attributes) -> Decision: ...


def impersonated(user: User, headers: Mapping[str, str], authorizer: Authorizer | None) -> User:
    """`kubectl --as`: who may impersonate somebody may act as them. Raises StatusError 403."""
    name = headers.get("impersonate-user", "")
    if not name:
        return user
    groups = tuple(one.strip() for one in headers.get("impersonate-group", "").split(",") if one.strip())
    uid = headers.get("impersonate-uid", "")
    extra = {
        unquote(key.removeprefix(_EXTRA)): tuple(one.strip() for one in value.split(","))
        for key, value in headers.items()
        if key.startswith(_EXTRA)
    }
    if MASTERS not in user.groups:
        for what in _impersonations(name, groups, uid, extra):
            decision = authorizer.decide(user, what) if authorizer is not None else Decision(False)
            if not decision.allowed:
                raise refusal(user, what, decision.reason)
    account = service_account(name)
    if account and not groups:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{account[0]}")
    if name == ANONYMOUS.name:
        groups = groups or ANONYMOUS.groups
    elif AUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(name=name, groups=groups, uid=uid, extra=extra)


def service_account(name: str) -> tuple[str, str] | None:
    """Namespace and name, if the user is a service account."""
    prefix, _, account = name.rpartition("serviceaccount:")
    if prefix != "system:" or ":" not in account:
        return None
    namespace, _, found = account.partition(":")
    return namespace, found


def _impersonations(
    name: str, groups: tuple[str, ...], uid: str, extra: Mapping[str, tuple[str, ...]]
) -> Iterator[Attributes]:
    """What one has to be allowed for it."""
    account = service_account(name)
    verb = "impersonate"
    if account:
        yield Attributes(
            verb=verb, path="", resource="serviceaccounts", namespace=account[0], name=account[1]
        )
    else:
        yield Attributes(verb=verb, path="", resource="users", name=name)
    for group in groups:
        yield Attributes(verb=verb, path="", resource="groups", name=group)
    of = "authentication.k8s.io"
    if uid:
        yield Attributes(verb=verb, path="", group=of, resource="uids", name=uid)
    for key, values in extra.items():
        for value in values:
            yield Attributes(verb=verb, path="", group=of, resource="userextras", subresource=key, name=value)


def user_info(user: User) -> dict[str, Any]:
    """A user as documents tell of one: reviews, audit, admission."""
    info: dict[str, Any] = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def authorize(authorizer: Authorizer, user: User, what: Attributes) -> None:
    """Raises StatusError 403, in the words that kubectl shows."""
    if MASTERS in user.groups:
        return
    decision = authorizer.decide(user, what)
    if not decision.allowed:
        raise refusal(user, what, decision.reason)


def refusal(user: User, what: Attributes, reason: str = "") -> errors.StatusError:
    """403: who cannot do what, where."""
    who = f"User {errors.quoted(user.name)} cannot {what.verb}"
    more = f": {reason}" if reason else ""
    if not what.is_resource:
        return errors.forbidden("", "", f"{who} path {errors.quoted(what.path)}{more}")
    resource = f"{what.resource}/{what.subresource}" if what.subresource else what.resource
    where = f' in the namespace "{what.namespace}"' if what.namespace else " at the cluster scope"
    why = f'{who} resource "{resource}" in API group "{what.group}"{where}{more}'
    group_resource = f"{what.resource}.{what.group}" if what.group else what.resource
    return errors.forbidden(group_resource, what.name, why)
