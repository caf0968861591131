"""Faults times commands: each ends in time with the right words, and its twin on a healthy context with success.

One test is one fault. Its clusters are launched before it begins; then all commands, and all their twins, run at the
same moment against the same API server, and each is judged by itself. When the fault is over, what was kept can be
removed.
The core of the faults is in `make test`, all of them in `make faults`.
"""

from __future__ import annotations

import pytest

from faults.commands import COMMANDS, LONG_JOB, ROLES, check_faulty, check_healthy, launch
from faults.defects import DEFECTS
from faults.lab import Lab


@pytest.mark.parametrize(
    "fault",
    [pytest.param(name, marks=() if defect.core else pytest.mark.slow) for name, defect in DEFECTS.items()],
)
def test_every_command_ends_as_it_should_and_its_twin_on_a_healthy_infra_is_unharmed(
    fault: str, lab: Lab, subtests: pytest.Subtests
) -> None:
    defect = DEFECTS[fault]
    with lab.site(fault) as site:
        faulty, healthy = site.side, lab.healthy_side()
        sides = (faulty, healthy)
        launched = lab.together(*(launch(side, role, "-d", LONG_JOB) for side in sides for role in ROLES))
        assert [outcome.code for outcome in launched] == [0] * len(launched), "\n".join(map(str, launched))
        lab.wait_for_jobs(*(side.cluster(role) for side in sides for role in ROLES))
        try:
            with defect.begin(site):
                said = lab.together(*(command.argv(side) for side in sides for command in COMMANDS.values()))
            for name, on_faulty, on_healthy in zip(
                COMMANDS, said[: len(COMMANDS)], said[len(COMMANDS) :], strict=True
            ):
                with subtests.test(command=name, infra="faulty"):
                    check_faulty(name, on_faulty, defect, faulty)
                with subtests.test(command=name, infra="healthy"):
                    check_healthy(name, on_healthy)
        finally:
            lab.clean(*sides)
