"""Faults times commands: each ends in time with the right words, and its twin on a healthy context with success.

All commands of one fault, and all their twins, run at the same moment against the same API server; each is a test of
its own. The clusters were launched before the fault began. When it is over, what was kept can be removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from faults.commands import COMMANDS, LONG_JOB, ROLES, check_faulty, check_healthy, launch
from faults.defects import DEFECTS, Defect
from faults.lab import Lab, Outcome, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What became of every command while one fault lasted."""

    defect: Defect
    side: Side
    faulty: Mapping[str, Outcome]
    healthy: Mapping[str, Outcome]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            name,
            marks=[pytest.mark.xdist_group(name), *(() if defect.core else (pytest.mark.slow,))],
        )
        for name, defect in DEFECTS.items()
    ],
)
def storm(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Storm]:
    """One fault, and every command on both sides of it."""
    defect = DEFECTS[request.param]
    with lab.site(request.param) as site:
        sides = (site.side, lab.healthy_side())
        before = lab.together(*(launch(side, role, "-d", LONG_JOB) for side in sides for role in ROLES))
        assert [outcome.code for outcome in before] == [0] * len(before), "\n".join(map(str, before))
        lab.wait_for_jobs(*(side.cluster(role) for side in sides for role in ROLES))
        with defect.begin(site):
            said = lab.together(*(command.argv(side) for side in sides for command in COMMANDS.values()))
        half = len(COMMANDS)
        yield Storm(
            defect=defect,
            side=site.side,
            faulty=dict(zip(COMMANDS, said[:half], strict=True)),
            healthy=dict(zip(COMMANDS, said[half:], strict=True)),
        )
        lab.clean(*sides)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_on_a_faulty_infra_ends_with_the_right_error(storm: Storm, command: str) -> None:
    check_faulty(command, storm.faulty[command], storm.defect, storm.side)


@pytest.mark.parametrize("command", COMMANDS)
def test_its_twin_on_a_healthy_infra_is_unharmed(storm: Storm, command: str) -> None:
    check_healthy(command, storm.healthy[command])
