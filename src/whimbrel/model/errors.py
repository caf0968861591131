"""Every error a user of whimbrel can meet.

    WhimError
    ├── InvalidTask            the task, its YAML or an option was refused
    ├── InvalidName            a name that Kubernetes would refuse
    ├── InvalidConfig          the configuration file was refused
    ├── NotFound               no such cluster, job or request
    │   └── JobNotFound
    ├── Conflict               another operation or an existing cluster is in the way
    ├── Unsupported            what the infrastructure cannot do at all
    ├── Cancelled              the request was cancelled
    ├── SetupFailed            the task's setup ended with a non-zero code
    ├── ServerUnavailable      the API server cannot be started or does not answer
    ├── DeadlineExceeded       a step was not done within its deadline
    ├── StoreUnusable          the server's database cannot be opened or used
    └── InfraError             what an Infra may raise: a closed set
        ├── ContextNotFound        the kubeconfig has no such context
        ├── KubeconfigInvalid      the kubeconfig cannot be read
        ├── DependencyMissing      a program that it needs (a credential plugin) is not installed
        ├── Unreachable            no answer within the deadline (refused, silent, DNS, TLS)
        ├── Unavailable            it answers that it cannot at present (429, 5xx)
        ├── Unauthorized           the credentials are refused or expired
        ├── Forbidden              the credentials do not allow this
        ├── IdentityChanged        the context now leads to another Kubernetes cluster
        ├── OutOfCapacity          nothing has room for what was asked
        ├── QuotaExceeded          a quota refuses it
        ├── NodeLost               a node of the cluster is gone or cannot be reached
        ├── LeftBehind             something could not be removed
        └── InfraRefused           the infrastructure answered with an error of its own

An error crosses the wire as `to_wire()` and comes back as the same class through `from_wire()`, so that the CLI
and the SDK say the same words. The class docstring is the default message; `remedy` is the command or the change
that mends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from whimbrel.model.exitcodes import ExitCode


class WhimError(Exception):
    """Something went wrong."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    http_status: ClassVar[int] = 500

    def __init__(
        self,
        message: str | None = None,
        *,
        remedy: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        self.remedy = remedy
        self.details: dict[str, Any] = dict(details or {})
        super().__init__(self.message)

    def to_wire(self) -> dict[str, Any]:
        """The error as JSON: `code` is the class name."""
        wire: dict[str, Any] = {"code": type(self).__name__, "message": self.message}
        if self.remedy:
            wire["remedy"] = self.remedy
        if self.details:
            wire["details"] = self.details
        return wire


class InvalidTask(WhimError):
    """The task was refused."""

    exit_code = ExitCode.INVALID
    http_status = 422


class InvalidName(InvalidTask):
    """The name was refused."""


class InvalidConfig(WhimError):
    """The configuration file was refused."""

    exit_code = ExitCode.INVALID
    http_status = 422


class NotFound(WhimError):
    """There is nothing of that name."""

    exit_code = ExitCode.NOT_FOUND
    http_status = 404


class JobNotFound(NotFound):
    """There is no such job."""

    exit_code = ExitCode.JOB_NOT_FOUND


class Conflict(WhimError):
    """Something else is in the way."""

    exit_code = ExitCode.CONFLICT
    http_status = 409


class Unsupported(WhimError):
    """The infrastructure cannot do this."""

    exit_code = ExitCode.INVALID
    http_status = 422


class Cancelled(WhimError):
    """The request was cancelled."""

    exit_code = ExitCode.CANCELLED
    http_status = 409


class SetupFailed(WhimError):
    """The task's setup failed."""

    exit_code = ExitCode.SETUP_FAILED


class ServerUnavailable(WhimError):
    """The API server does not answer."""

    exit_code = ExitCode.SERVER
    http_status = 503


class DeadlineExceeded(WhimError):
    """The work was not done within its deadline."""

    http_status = 504


class StoreUnusable(WhimError):
    """The server's database cannot be used."""

    exit_code = ExitCode.SERVER
    http_status = 503


class InfraError(WhimError):
    """The infrastructure could not do it."""

    http_status = 502


class ContextNotFound(InfraError):
    """The kubeconfig has no such context."""

    exit_code = ExitCode.UNREACHABLE
    http_status = 422


class KubeconfigInvalid(InfraError):
    """The kubeconfig cannot be read."""

    exit_code = ExitCode.UNREACHABLE
    http_status = 422


class DependencyMissing(InfraError):
    """A program or package that the infrastructure needs is not installed."""

    exit_code = ExitCode.DEPENDENCY_MISSING
    http_status = 422


class Unreachable(InfraError):
    """The infrastructure did not answer."""

    exit_code = ExitCode.UNREACHABLE


class Unavailable(InfraError):
    """The infrastructure answers that it cannot at present."""

    exit_code = ExitCode.UNREACHABLE


class Unauthorized(InfraError):
    """The credentials are refused."""

    exit_code = ExitCode.UNREACHABLE


class Forbidden(InfraError):
    """The credentials do not allow this."""

    exit_code = ExitCode.UNREACHABLE


class IdentityChanged(InfraError):
    """The context now leads to another cluster."""

    exit_code = ExitCode.UNREACHABLE
    http_status = 409


class OutOfCapacity(InfraError):
    """Nothing has room for what was asked."""

    exit_code = ExitCode.NO_CAPACITY
    http_status = 409


class QuotaExceeded(OutOfCapacity):
    """A quota refuses it."""


class NodeLost(InfraError):
    """A node of the cluster is gone."""

    exit_code = ExitCode.UNREACHABLE


class LeftBehind(InfraError):
    """Something could not be removed."""

    exit_code = ExitCode.LEFT_BEHIND


class InfraRefused(InfraError):
    """The infrastructure answered with an error."""


def _tree(root: type[WhimError]) -> dict[str, type[WhimError]]:
    """The classes that cross the wire: those of this module. A subclass somewhere else is nobody's business but its
    own."""
    found = {root.__name__: root}
    for child in root.__subclasses__():
        if child.__module__ == __name__:
            found.update(_tree(child))
    return found


def from_wire(wire: Mapping[str, Any]) -> WhimError:
    """The error that `to_wire` wrote; an unknown code (a newer server) becomes a plain `WhimError`."""
    kind = _tree(WhimError).get(str(wire.get("code")), WhimError)
    return kind(
        str(wire.get("message") or kind.__doc__), remedy=wire.get("remedy"), details=wire.get("details") or {}
    )
