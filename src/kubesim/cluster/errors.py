"""Every error that a user of `kubesim` commands can meet.

    ClusterError
    ├── InvalidName          a cluster name that Kubernetes would refuse
    ├── InvalidOption        an option's value was refused
    ├── ClusterNotFound      no cluster of that name
    ├── ClusterConflict      a cluster of that name exists and differs from what was asked
    ├── ClusterBusy          another command is working on the cluster
    ├── RuntimeUnavailable   corrupt data, or a daemon that does not answer or stop; all is kept
    ├── FaultNotFound        no fault of that id is set
    ├── LeftBehind           a forced delete could not remove everything
    ├── DaemonNotStarted     the daemon ended or did not come up
    ├── NotReady             `--wait` ran out
    ├── KubeconfigRefused    the user's kubeconfig cannot be read or changed
    ├── ProgramMissing       kubectl is not installed
    ├── SnapshotRefused      a file is no snapshot, or not one for this cluster; nothing was changed
    ├── SnapshotIncomplete   a restore made what it could; what it could not is named
    └── ApiFailed            the API server of a cluster refused or did not answer

The class docstring is the default message; `remedy` is the command or the change that mends it. What the API server
answers to its clients is not here: that is `kubesim.errors.StatusError`.
"""

from __future__ import annotations

from typing import ClassVar

from kubesim.cluster.exitcodes import ExitCode


class ClusterError(Exception):
    """Something went wrong with the cluster."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, message: str | None = None, *, remedy: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        self.remedy = remedy
        super().__init__(self.message)


class InvalidName(ClusterError):
    """The name was refused."""

    exit_code = ExitCode.INVALID


class InvalidOption(ClusterError):
    """The option was refused."""

    exit_code = ExitCode.INVALID


class ClusterNotFound(ClusterError):
    """There is no cluster of that name."""

    exit_code = ExitCode.NOT_FOUND


class ClusterConflict(ClusterError):
    """A cluster of that name exists and differs from what was asked."""

    exit_code = ExitCode.CONFLICT


class ClusterBusy(ClusterError):
    """Another command is working on the cluster."""

    exit_code = ExitCode.CONFLICT


class RuntimeUnavailable(ClusterError):
    """The cluster's runtime is not available."""

    exit_code = ExitCode.UNAVAILABLE


class FaultNotFound(ClusterError):
    """There is no fault of that id."""

    exit_code = ExitCode.NOT_FOUND


class LeftBehind(ClusterError):
    """Something could not be removed."""

    exit_code = ExitCode.LEFT_BEHIND


class DaemonNotStarted(ClusterError):
    """The cluster's daemon could not be started."""

    exit_code = ExitCode.NOT_STARTED


class NotReady(ClusterError):
    """The cluster was not ready in time."""

    exit_code = ExitCode.NOT_READY


class KubeconfigRefused(ClusterError):
    """The kubeconfig could not be changed."""

    exit_code = ExitCode.INVALID


class ProgramMissing(ClusterError):
    """A program that this command needs is not installed."""

    exit_code = ExitCode.DEPENDENCY_MISSING


class SnapshotRefused(ClusterError):
    """The snapshot was refused; nothing was changed."""

    exit_code = ExitCode.INVALID


class SnapshotIncomplete(ClusterError):
    """Not everything of the snapshot could be restored."""


class ApiFailed(ClusterError):
    """The API server refused, or did not answer."""
