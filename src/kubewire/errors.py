"""Every error that kubewire raises.

    KubeError
    ├── ConfigError                 the kubeconfig does not lead to a cluster; no call was made
    │   ├── KubeconfigInvalid       a file is missing, broken or contradicts itself
    │   ├── KubeconfigLocked        another process is changing the file
    │   ├── ContextNotFound         no such context; `known` lists those that are there
    │   └── ContextIncomplete       the context names no cluster or user, or one that is not there
    ├── CredentialError             a credential plugin failed, hung or printed garbage; a token cannot be read
    │   └── PluginMissing           the plugin is not installed
    ├── Unreachable                 no usable answer: DNS, refused, timeout, TLS, reset, protocol, proxy
    ├── StreamBroken                a stream ended before its own end, or fell silent
    ├── NotSupported                the protocol that the server negotiated cannot do this
    └── ApiError                    the API server answered with a Status
        ├── BadRequest 400          ├── Unauthorized 401     ├── Forbidden 403
        ├── NotFound 404            ├── Conflict 409         ├── AlreadyExists 409
        ├── Gone 410                ├── Invalid 422          ├── TooManyRequests 429
        └── ServerError 5xx

The class docstring is the default message; `remedy` is what the user can do about it. No message, `repr` or
log line of this package carries a token, a password or a key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

Reason = Literal["dns", "refused", "timeout", "tls", "reset", "protocol", "proxy"]
"""Why an endpoint is unreachable."""


class KubeError(Exception):
    """Something went wrong between us and Kubernetes."""

    def __init__(self, message: str | None = None, *, remedy: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        self.remedy = remedy
        super().__init__(self.message)


class ConfigError(KubeError):
    """The kubeconfig does not lead to a cluster."""


class KubeconfigInvalid(ConfigError):
    """The kubeconfig cannot be used."""

    def __init__(self, path: Path | str, reason: str, *, remedy: str | None = None) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"kubeconfig {path}: {reason}", remedy=remedy or f"Mend {path}.")


class KubeconfigLocked(ConfigError):
    """Another process is changing the kubeconfig."""

    def __init__(self, lock: Path) -> None:
        self.lock = lock
        super().__init__(
            f"{lock} is held by another process",
            remedy=f"Wait for kubectl or another tool to finish; if none is running, remove {lock}.",
        )


class ContextNotFound(ConfigError):
    """The kubeconfig has no such context."""

    def __init__(self, context: str | None, known: Sequence[str], missing: Sequence[Path] = ()) -> None:
        self.context = context
        self.known = list(known)
        there = ", ".join(self.known) if self.known else "none"
        absent = ", ".join(str(path) for path in missing)
        files = f"; {absent} does not exist" if absent else ""
        if context is None:
            message = f"no context was named and the kubeconfig has no current-context (contexts there: {there}{files})"
            remedy = "Name a context, or set one with `kubectl config use-context NAME`."
        else:
            message = f"the kubeconfig has no context {context!r} (contexts there: {there}{files})"
            remedy = "Use one of the contexts that are there, or check KUBECONFIG."
        super().__init__(message, remedy=remedy)


class ContextIncomplete(ConfigError):
    """The context lacks a cluster or a user."""

    def __init__(self, context: str, reason: str) -> None:
        self.context = context
        self.reason = reason
        super().__init__(
            f"context {context!r} {reason}",
            remedy=f"Complete it with `kubectl config set-context {context} --cluster=... --user=...`.",
        )


class CredentialError(KubeError):
    """The credentials could not be obtained."""


class PluginMissing(CredentialError):
    """A credential plugin is not installed."""


class Unreachable(KubeError):
    """The endpoint gave no usable answer."""

    def __init__(self, endpoint: str, reason: Reason, elapsed: float = 0.0, detail: str = "") -> None:
        self.endpoint = endpoint
        self.reason: Reason = reason
        self.elapsed = elapsed
        self.detail = detail
        words, remedy = _REASONS[reason]
        tail = f": {detail}" if detail else ""
        super().__init__(f"{endpoint} {words} after {elapsed:.1f} s{tail}", remedy=remedy)


_REASONS: dict[Reason, tuple[str, str]] = {
    "dns": (
        "has a name that does not resolve",
        "Check the server's name in the kubeconfig, the network and the VPN.",
    ),
    "refused": ("refused the connection", "Check that the cluster is running and that the address is right."),
    "timeout": ("did not answer", "Check that the cluster is running, and the network or VPN to it."),
    "tls": (
        "failed the TLS handshake",
        "Check the certificate authority and certificates in the kubeconfig.",
    ),
    "reset": ("closed the connection", "Check that the cluster is healthy; then try again."),
    "protocol": (
        "did not answer like a Kubernetes API server",
        "Check that the address is that of a Kubernetes API server, not of a proxy or another service.",
    ),
    "proxy": ("cannot be reached through its proxy", "Check proxy-url in the kubeconfig, or HTTPS_PROXY."),
}


class StreamBroken(KubeError):
    """The stream ended before its own end."""


class NotSupported(KubeError):
    """The server's protocol cannot do this."""


class ApiError(KubeError):
    """The API server refused the request."""

    def __init__(
        self,
        code: int,
        reason: str = "",
        message: str = "",
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.code = code
        self.reason = reason
        self.details: dict[str, Any] = dict(details or {})
        self.retry_after = retry_after
        super().__init__(
            message or f"the API server answered {code} {reason}".rstrip(), remedy=_REMEDIES.get(code)
        )


class BadRequest(ApiError):
    """The API server could not understand the request."""


class Unauthorized(ApiError):
    """The credentials were refused."""


class Forbidden(ApiError):
    """The credentials do not allow this."""


class NotFound(ApiError):
    """There is no such object."""


class Conflict(ApiError):
    """The object was changed by somebody else meanwhile."""


class AlreadyExists(ApiError):
    """An object of that name is already there."""


class Gone(ApiError):
    """The version that was asked for is no longer known."""


class Invalid(ApiError):
    """The object was refused by validation."""


class TooManyRequests(ApiError):
    """The API server asks to slow down."""


class ServerError(ApiError):
    """The API server failed."""


_REMEDIES = {
    401: "Log in again, or renew the credentials of this context.",
    403: "Ask the cluster's administrator for the role that allows this.",
    429: "Try again in a moment.",
}

_BY_CODE: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def api_error(
    code: int,
    reason: str = "",
    message: str = "",
    details: Mapping[str, Any] | None = None,
    retry_after: float | None = None,
) -> ApiError:
    """The error of the class that fits a Status."""
    if code == 409 and reason == "AlreadyExists":
        kind: type[ApiError] = AlreadyExists
    elif code >= 500:
        kind = ServerError
    else:
        kind = _BY_CODE.get(code, ApiError)
    return kind(code, reason, message, details, retry_after)


def transient(error: KubeError) -> bool:
    """Whether the same call may succeed later without anybody mending anything."""
    if isinstance(error, ApiError):
        return isinstance(error, (ServerError, TooManyRequests, Gone)) or error.code == 408
    return isinstance(error, (Unreachable, StreamBroken, CredentialError))
