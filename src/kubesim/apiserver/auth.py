"""Who asks, and whether they may.

Three ways to say who one is: a client certificate that the cluster's authority signed, a bearer token that
the cluster knows, nothing (anonymous). Members of `system:masters` may do everything, which in this version
is every identity that the cluster hands out; everybody else may look at health, version and discovery, and
ask what they may, as with the default roles.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kubesim import errors
from kubesim.apiserver.requests import ANONYMOUS, User

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"

_ABOUT_ONESELF = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})
_EVERYBODY = frozenset({"/healthz", "/livez", "/readyz", "/version", "/version/"})
_DISCOVERY = ("/api", "/apis", "/openapi", "/healthz", "/livez", "/readyz", "/version")


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

    def add(self, reader: TokenReader) -> None:
        """Ask this one as well about tokens."""
        self._readers.append(reader)

    def authenticate(self, headers: Mapping[str, str], certificate_user: User | None) -> User:
        """Who asks, or whom they act for. Raises StatusError 401, 403."""
        return impersonated(self._presented(headers, certificate_user), headers)

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


def impersonated(user: User, headers: Mapping[str, str]) -> User:
    """`kubectl --as`: somebody who may do everything may also do it as somebody else. Raises StatusError
    403."""
    name = headers.get("impersonate-user", "")
    if not name:
        return user
    groups = tuple(one.strip() for one in headers.get("impersonate-group", "").split(",") if one.strip())
    if MASTERS not in user.groups:
        why = f'User {errors.quoted(user.name)} cannot impersonate resource "users" in API group "" at the '
        raise errors.forbidden("users", name, why + "cluster scope")
    kind, _, account = name.rpartition("serviceaccount:")
    if kind == "system:" and ":" in account and not groups:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{account.partition(':')[0]}")
    if name != ANONYMOUS.name and AUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(name=name, groups=groups, uid=headers.get("impersonate-uid", ""))


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


def allowed(user: User, what: Attributes) -> bool:
    if MASTERS in user.groups:
        return True
    if what.is_resource:
        return AUTHENTICATED in user.groups and what.verb == "create" and what.resource in _ABOUT_ONESELF
    if what.verb not in ("get", "head"):
        return False
    if what.path in _EVERYBODY:
        return True
    return AUTHENTICATED in user.groups and any(
        what.path == path or what.path.startswith(path + "/") for path in _DISCOVERY
    )


def authorize(user: User, what: Attributes) -> None:
    """Raises StatusError 403, in the words that kubectl shows."""
    if allowed(user, what):
        return
    who = f"User {errors.quoted(user.name)} cannot {what.verb}"
    if not what.is_resource:
        raise errors.forbidden("", "", f"{who} path {errors.quoted(what.path)}")
    resource = f"{what.resource}/{what.subresource}" if what.subresource else what.resource
    where = f' in the namespace "{what.namespace}"' if what.namespace else " at the cluster scope"
    why = f'{who} resource "{resource}" in API group "{what.group}"{where}'
    group_resource = f"{what.resource}.{what.group}" if what.group else what.resource
    raise errors.forbidden(group_resource, what.name, why)
