"""The one registry of exit codes of `whim`.

0 only when what was asked for happened. 100 to 103 are SkyPilot's codes for the outcome of a job that was
watched, so that scripts written for it keep working. The table in `docs/reference/exit-codes.md` is generated
from this enum.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a `whim` command ended with; each member's comment is the text of the reference page."""

    OK = 0  # What was asked for happened.
    FAILED = 1  # It did not happen, for a reason that has no code of its own.
    USAGE = 2  # The command line was not understood: an unknown option or a missing argument.
    INVALID = 3  # The task, its YAML, a name, a file, or what was asked for was refused; nothing was done.
    NOT_FOUND = 4  # No cluster, request or context of that name.
    CONFLICT = 5  # Something else is in the way: another operation, an existing cluster that does not fit.
    UNREACHABLE = 6  # The infrastructure did not answer, or refused us; the record is kept.
    NO_CAPACITY = 7  # Nothing offers what was asked for, or not now.
    LEFT_BEHIND = 8  # Some of what should be deleted is still there; the record is kept.
    DEPENDENCY_MISSING = 9  # A program or package that is needed, such as a credential plugin, is missing.
    SERVER = 10  # The API server could not be started or did not answer.
    SETUP_FAILED = 11  # The task's setup failed; the cluster stays up for debugging.
    CANCELLED = 12  # The request was cancelled before it was done.
    JOB_FAILED = 100  # The job that was watched failed.
    JOB_NOT_FINISHED = 101  # The job that was asked about has not finished.
    JOB_NOT_FOUND = 102  # There is no such job.
    JOB_CANCELLED = 103  # The job that was watched was cancelled.
    INTERRUPTED = 130  # Ctrl-C: this command detached or ended; work on the server goes on.
    OUTPUT_CLOSED = 141  # Whoever read the output left, as `head` does; work on the server goes on.
