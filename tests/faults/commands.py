"""The commands of the laboratory: what each is called with, and what it has to end with where nothing can be asked.

A new command is one line here; it is then run on every fault, and its twin on the healthy side at the same time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from faults.defects import Defect
from faults.lab import Outcome, Side
from whimbrel.model.exitcodes import ExitCode

LONG_JOB = "echo begun; sleep 600"


class Needs(Enum):
    """What a command has to have for its answer."""

    INFRA = "it fails with the infrastructure's error"
    DATABASE = "it never asks the infrastructure, so that nothing is wrong"
    CACHE = "what was learned shortly before will do; else it fails with the infrastructure's error"
    NOTHING = "it asks, and does its work even when there is no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command; clusters are those that `Roles` names."""

    argv: Callable[[Side], Sequence[str]]
    needs: Needs
    prints: str = ""
    """A pattern in what it prints when it works."""
    ends: Sequence[ExitCode] = (ExitCode.OK,)
    """How it ends when it works."""
    tells: str = ""
    """A pattern in what it says, beside the reason, when the infrastructure fails."""


ROLES = ("kept", "goes", "purged")
"""The clusters of each side, all with one job that runs: `kept` is used, `goes` is taken down, `purged` is purged."""


def launch(side: Side, role: str, *job: str) -> Sequence[str]:
    """Launch one of them."""
    return ("launch", "-c", side.cluster(role), "-y", "--cpus", "0.1", "--infra", side.infra, *job)


COMMANDS: Mapping[str, Command] = {
    "launch": Command(argv=lambda side: launch(side, "new", "echo hello"), needs=Needs.INFRA, prints="hello"),
    "launch --dryrun": Command(
        argv=lambda side: launch(side, "never", "--dryrun", "echo hello"), needs=Needs.CACHE
    ),
    "exec": Command(
        argv=lambda side: ("exec", side.cluster("kept"), "echo hello"), needs=Needs.INFRA, prints="hello"
    ),
    "status": Command(argv=lambda side: ("status", side.cluster("kept")), needs=Needs.DATABASE, prints=r"UP"),
    "status --refresh": Command(
        argv=lambda side: ("status", "--refresh", side.cluster("kept")), needs=Needs.INFRA, prints=r"UP"
    ),
    "queue": Command(
        argv=lambda side: ("queue", side.cluster("kept")),
        needs=Needs.DATABASE,
        prints="RUNNING|CANCEL",  # `cancel` is on its way
    ),
    "logs": Command(
        argv=lambda side: ("logs", side.cluster("kept"), "1", "--no-follow"),
        needs=Needs.DATABASE,
        prints="begun",
        ends=(ExitCode.JOB_NOT_FINISHED, ExitCode.JOB_CANCELLED),  # `cancel` is on its way
    ),
    "cancel": Command(
        argv=lambda side: ("cancel", "-y", side.cluster("kept"), "1"),
        needs=Needs.DATABASE,
        prints="Cancelling job 1",
    ),
    "down": Command(
        argv=lambda side: ("down", "-y", side.cluster("goes")),
        needs=Needs.INFRA,
        prints="removed",
        tells=r"its record is kept[\s\S]*--purge",
    ),
    "down --purge": Command(
        argv=lambda side: ("down", "-y", "--purge", side.cluster("purged")),
        needs=Needs.NOTHING,
        prints="removed",
        tells="may still cost money",
    ),
    "stop": Command(
        argv=lambda side: ("stop", "-y", side.cluster("kept")),
        needs=Needs.DATABASE,
        ends=(ExitCode.INVALID,),  # there is no stopping on Kubernetes
    ),
    "gpus list": Command(
        argv=lambda side: ("gpus", "list", "--infra", side.infra), needs=Needs.CACHE, prints="VENDOR"
    ),
    "check": Command(argv=lambda side: ("check", side.infra), needs=Needs.INFRA, prints="yes"),
    "api status": Command(argv=lambda side: ("api", "status"), needs=Needs.DATABASE, prints="cluster.launch"),
}


def check_healthy(name: str, outcome: Outcome) -> None:
    """It worked."""
    assert outcome.code in COMMANDS[name].ends, f"healthy {name}: {outcome}"
    assert re.search(COMMANDS[name].prints, outcome.out), f"healthy {name}: {outcome}"


def check_faulty(name: str, outcome: Outcome, defect: Defect, side: Side) -> None:
    """It ended as it should where this is wrong: its exit code, and words for the place, the cause, the remedy."""
    command = COMMANDS[name]
    assert outcome.code is not None, f"{name} does not end: {outcome}"
    assert "Traceback" not in outcome.err, str(outcome)
    code = defect.code
    may_know = command.needs is Needs.CACHE or name in defect.known
    from_cache = may_know and outcome.code == ExitCode.OK
    if code is ExitCode.OK or command.needs is Needs.DATABASE or from_cache:
        check_healthy(name, outcome)
        return
    expected = ExitCode.OK if command.needs is Needs.NOTHING else code
    assert outcome.code == expected, f"{name} should end with {expected}: {outcome}"
    assert side.context in outcome.err, f"{name} does not say where: {outcome}"
    assert re.search(defect.words, _unwrapped(outcome.err)), (
        f"{name} does not say {defect.words!r}: {outcome}"
    )
    if command.needs is Needs.INFRA and name != "status --refresh":
        assert "Try:" in outcome.err, f"{name} does not say what to do: {outcome}"
    assert re.search(command.tells, outcome.err), f"{name} does not say {command.tells!r}: {outcome}"


def _unwrapped(text: str) -> str:
    return " ".join(text.split())
