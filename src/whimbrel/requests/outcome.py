"""How a run of an operation ends: what its result, its error or its cancellation means for the request.

A `WhimError` is final. A lost lease means: write nothing. A cancellation by the user ends the request, one by a
shutdown hands it back. A fault of our own database puts it off. Anything else is a bug of ours, said so to the user and
logged with its traceback.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from sqlalchemy.exc import OperationalError

from whimbrel.model.errors import WhimError
from whimbrel.model.status import RequestState
from whimbrel.requests.run import Operation, Run, Stop
from whimbrel.store.leases import LostLease
from whimbrel.store.requests import JsonObject

logger = logging.getLogger(__name__)

MOST_FAILURES = 5  # how often our own database may put a request off


@dataclass(slots=True)
class Outcome:
    """How a run ended; no state: hand it back to the queue, for the reason in `why`."""

    state: RequestState | None
    output: JsonObject | None = None
    error: JsonObject | None = None
    why: str = ""
    put_off: bool = False


async def outcome_of(operation: Operation, run: Run) -> Outcome:
    """Run an operation and say how it ended; never raises but for a cancellation that nobody gave a reason for."""
    try:
        return Outcome(RequestState.SUCCEEDED, output=dict(await operation.run(run) or {}))
    except asyncio.CancelledError:
        if run.cancelled is None:
            raise
        return stopped(run)
    except Exception as error:
        if run.cancelled is not None:
            return stopped(run)
        return _failure(run, _essence(error))


def stopped(run: Run) -> Outcome:
    """What the cancellation of a run means for its request."""
    if run.cancelled is Stop.USER:
        reason = run.cancel_reason or "cancelled"
        error = {"code": "Cancelled", "message": f"The request was cancelled: {reason}."}
        return Outcome(RequestState.CANCELLED, error=error)
    return Outcome(None, why=str(run.cancelled))


def _failure(run: Run, error: Exception) -> Outcome:
    if isinstance(error, LostLease):
        run.mark_stopped(Stop.LOST)
        return Outcome(None, why="lost")
    if isinstance(error, WhimError):
        return Outcome(RequestState.FAILED, error=error.to_wire())
    if isinstance(error, OperationalError) and run.request.failures < MOST_FAILURES:
        return Outcome(None, why=f"the database: {error.orig}", put_off=True)
    return crashed(run, error)


def crashed(run: Run, error: Exception) -> Outcome:
    """A mistake of ours. The log has the story; the user gets its kind only, because its text may hold what they
    sent."""
    logger.error(
        "operation %s of request %s failed unexpectedly",
        run.request.kind,
        run.id,
        exc_info=error,
        extra={"action": "operation-crashed"},
    )
    wire: JsonObject = {
        "code": "WhimError",
        "message": f"The API server met an error that it does not know ({type(error).__name__}).",
        "remedy": "`whim api logs` has the traceback; please report it.",
    }
    return Outcome(RequestState.FAILED, error=wire)


def _essence(error: Exception) -> Exception:
    """The error that matters most in an exception group: a lost lease, else what a user can read, else the first."""
    if not isinstance(error, ExceptionGroup):
        return error
    inner = [_essence(each) for each in error.exceptions]
    for kind in (LostLease, WhimError):
        for each in inner:
            if isinstance(each, kind):
                return each
    return inner[0]
