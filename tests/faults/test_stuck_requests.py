"""Requests that wait, hundreds of them: they hold up nobody else, and when they have ended nothing of them is left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil

from e2e.house import eventually
from faults.commands import COMMANDS, LONG_JOB, ROLES, check_healthy, launch
from faults.defects import DEFECTS
from faults.lab import Lab, Site

WAITING = 40
"""Launches that wait for machines: more than an API server may have of anything that all infras share."""
CROWD = 100
"""Callers of each kind at once."""
GROWTH = 4 * 2**20
"""Bytes that may be kept of two crowds; four hundred stuck calls that are never let go would cost 20 MiB."""


def test_launches_that_wait_for_machines_hold_up_no_other_request(lab: Lab) -> None:
    """They wait for as long as it takes (fifteen minutes); everybody else's commands come to their end meanwhile."""
    with lab.site("full") as site:
        healthy = lab.healthy_side()
        waiting: list[str] = []
        try:
            launched = lab.together(*(launch(healthy, role, "-d", LONG_JOB) for role in ROLES))
            assert [outcome.code for outcome in launched] == [0] * len(ROLES), "\n".join(map(str, launched))
            lab.wait_for_jobs(*(healthy.cluster(role) for role in ROLES))
            for number in range(WAITING):  # for all of the machine, of which some is in use
                name = site.side.cluster(f"wait{number}")
                waiting.append(lab.submit_launch(name, site.side.infra, cpus=lab.cpus))
            said = lab.together(*(command.argv(healthy) for command in COMMANDS.values()))
            assert lab.states_of(waiting) == {"running"}
            for name, outcome in zip(COMMANDS, said, strict=True):
                check_healthy(name, outcome)
        finally:
            for request in waiting:
                lab.ask("POST", f"requests/{request}/cancel", {})
            lab.clean(site.side, healthy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the API server's process holds."""

    threads: int
    descriptors: int
    memory: int

    @classmethod
    def by(cls, process: psutil.Process) -> Held:
        return cls(
            threads=process.num_threads(),
            descriptors=process.num_fds(),
            memory=process.memory_full_info().uss,
        )


def test_hundreds_of_stuck_calls_leave_memory_threads_and_descriptors_where_they_were(lab: Lab) -> None:
    server = psutil.Process(lab.server_pid)
    with lab.site("crowded") as site, DEFECTS["silent"].begin(site):
        usual = []
        for number in range(2):  # what is made once (pools, threads, caches) is there after this
            a_crowd_gets_stuck(lab, site, number)
            usual.append(Held.by(server))
        for number in range(2, 4):
            a_crowd_gets_stuck(lab, site, number)
        threads, descriptors = max(held.threads for held in usual), max(held.descriptors for held in usual)
        eventually(lambda: Held.by(server).threads <= threads, "no thread is left")
        eventually(lambda: Held.by(server).descriptors <= descriptors, "no descriptor is left")
        assert Held.by(server).memory - max(held.memory for held in usual) < GROWTH


def a_crowd_gets_stuck(lab: Lab, site: Site, number: int) -> None:
    """Launches, checks and plans, all at once on an infra that says nothing; until the last of them has ended."""
    names = [site.side.cluster(f"crowd{number}-{one}") for one in range(CROWD)]
    with ThreadPoolExecutor(2 * CROWD) as callers:
        checks = [callers.submit(lab.ask, "POST", "check", {"infra": [site.side.infra]}) for _ in names]
        launches = list(callers.map(lambda name: lab.submit_launch(name, site.side.infra, cpus=0.1), names))
        results = [check.result()["results"] for check in checks]
    assert [check["usable"] for (check,) in results] == [False] * CROWD
    eventually(
        lambda: lab.states_of(launches) == {"failed"},
        "every launch has been told that nobody answers",
    )
