"""The one registry of exit codes of `kubesim`.

0 only when what was asked for happened. The numbers mean the same as those of `whim` where both have them.
The table in `docs/kubesim/exit-codes.md` is held equal to this enum by a test.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a `kubesim` command ended with; each member's comment is the text of the reference page."""

    OK = 0  # What was asked for happened.
    FAILED = 1  # It did not happen, for a reason that has no code of its own.
    USAGE = 2  # The command line was not understood: an unknown option or a missing argument.
    INVALID = 3  # A name or an option was refused; nothing was started.
    NOT_FOUND = 4  # No cluster of that name.
    CONFLICT = 5  # An existing cluster does not fit, or another command is working on it.
    UNAVAILABLE = 6  # Its data cannot be read, or its daemon does not answer or end; everything was kept.
    LEFT_BEHIND = 8  # Deleted by force, but something could not be removed; what is left is named.
    DEPENDENCY_MISSING = 9  # A program that this command needs is not installed.
    NOT_STARTED = 10  # The cluster's daemon could not be started.
    NOT_READY = 11  # The time given by --wait passed before the cluster was ready; it goes on starting.
    INTERRUPTED = 130  # Ctrl-C; repeating the command finishes the work.
    OUTPUT_CLOSED = 141  # Whoever read the output left, as `head` does.
