"""What kubewire raises, and what goes wrong with answers that are not Kubernetes', in the words of
`whimbrel.model.errors`: the closed set that an Infra may raise. Pure."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import kubewire.errors as kube
from whimbrel.model import errors

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Named(Protocol):
    @property
    def name(self) -> str:
        """ "k8s/CONTEXT"."""


_N = TypeVar("_N", bound=_Named)
_Method = Callable[Concatenate[_N, _P], Coroutine[Any, Any, _T]]


def understood(method: _Method[_N, _P, _T]) -> _Method[_N, _P, _T]:
    """A method that takes answers apart: one of a shape that is not Kubernetes' is an `InfraRefused`, not a crash."""

    @functools.wraps(method)
    async def call(self: _N, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await method(self, *args, **kwargs)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            logger.exception("%s: %s failed", self.name, method.__name__)
            raise errors.InfraRefused(
                f"{self.name} gave an answer that is not Kubernetes' ({type(error).__name__}).",
                remedy="check where the context leads: `kubectl config view --minify`; `whim api logs` has the details",
            ) from error

    return call


def translate(infra: str, what: str, error: Exception) -> errors.InfraError:
    """The error for the user: where, what was being done, why, and what mends it."""
    if isinstance(error, errors.InfraError):
        return error
    if not isinstance(error, kube.KubeError):
        return errors.InfraRefused(f"{infra}: {what} failed: {error!r}")
    message = f"{infra}: {error.message}"
    if isinstance(error, kube.ApiError):
        return _from_api(infra, what, error)
    if isinstance(error, kube.ContextNotFound):
        return errors.ContextNotFound(message, remedy=error.remedy, details={"known": error.known})
    if isinstance(error, kube.ConfigError):
        return errors.KubeconfigInvalid(message, remedy=error.remedy)
    if isinstance(error, kube.PluginMissing):
        return errors.DependencyMissing(message, remedy=error.remedy)
    if isinstance(error, kube.CredentialError):
        return errors.Unauthorized(message, remedy=error.remedy or "log in again, then repeat the command")
    if isinstance(error, kube.Unreachable):
        return errors.Unreachable(message, remedy=error.remedy, details={"reason": error.reason})
    if isinstance(error, kube.StreamBroken):
        return errors.NodeLost(f"{infra}: {what}: {error.message}")
    return errors.InfraRefused(message, remedy=error.remedy)


def _from_api(infra: str, what: str, error: kube.ApiError) -> errors.InfraError:
    message = f"{infra} refused {what}: {error.message}"
    if isinstance(error, kube.Unauthorized):
        return errors.Unauthorized(message, remedy=error.remedy)
    if isinstance(error, kube.Forbidden) and "exceeded quota" in error.message:
        return errors.QuotaExceeded(
            message, remedy="ask for less, remove something in that namespace, or have the quota raised"
        )
    if isinstance(error, kube.Forbidden):
        return errors.Forbidden(message, remedy=error.remedy)
    if isinstance(error, kube.NotFound):
        return errors.InfraRefused(message)
    if isinstance(error, kube.ServerError | kube.TooManyRequests):
        when = f"in {error.retry_after:.0f} s" if error.retry_after else "in a moment"
        return errors.Unavailable(
            f"{infra} failed at {what} ({error.code}): {error.message}", remedy=f"try again {when}"
        )
    return errors.InfraRefused(message, remedy=error.remedy)
