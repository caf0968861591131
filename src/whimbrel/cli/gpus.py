"""`whim gpus list`: the accelerators of every infrastructure, and a catalogue of those that there are in the world.

It never ends in the middle: where there is no kubeconfig nobody is asked and no server is started, and an
infrastructure (or a server) that does not answer is one line beside the rows of the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import click

from whimbrel.cli.output import print_json, print_table, progress
from whimbrel.client import sdk
from whimbrel.client.http import kubeconfig_paths
from whimbrel.model import gpus as model
from whimbrel.model.errors import InvalidTask, NotFound, WhimError
from whimbrel.model.exitcodes import ExitCode

_MACHINES = 20
"""So many machines are shown one by one without being asked for."""

Rows = list[dict[str, Any]]


@click.group()
def gpus() -> None:
    """Show which accelerators there are."""


@click.command("list")
@click.argument("accelerator", required=False, metavar="[NAME[:COUNT]]")
@click.option("-a", "--all", "everything", is_flag=True, help="The whole catalogue and every machine too.")
@click.option("--infra", multiple=True, help="Only there (`k8s/CONTEXT`); may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(accelerator: str | None, everything: bool, infra: tuple[str, ...], as_json: bool) -> int:
    """Show accelerators: what each infrastructure has, uses and has free, by kind and by machine; where there are none,
    those that are known. NAME:COUNT shows machines that have so many."""
    name, count = _wanted(accelerator)
    with progress(enabled=not as_json) as say:
        answer, hint = _ask(infra, say)
    infras = [_only(one, name, count) for one in answer["infras"]]
    catalogue = [row for row in _catalogue() if name is None or model.same(row["name"], name)]
    machines = [machine for one in infras for machine in one["machines"]]
    if name and not machines and not catalogue:
        near = model.nearest(name)
        raise NotFound(
            f"No accelerator {name!r} is known, and none of the infrastructures has one.",
            remedy=f"whim gpus list {near}" if near else "whim gpus list --all",
        )
    if as_json:
        print_json({"infras": infras, "catalogue": catalogue, "errors": answer["errors"], "hint": hint})
    else:
        _show(infras, machines, everything, catalogue if everything or name or not machines else [])
        for line in [*_troubles(infras, answer["errors"]), *([hint] if hint else [])]:
            click.secho(line, fg="yellow", err=True)
    failed = infra and all(one["error"] and not one["machines"] for one in infras)
    return int(ExitCode.UNREACHABLE if failed else ExitCode.OK)


gpus.add_command(list_)


def _wanted(text: str | None) -> tuple[str | None, int]:
    if text is None:
        return None, 1
    name, number = text.rsplit(":", 1) if ":" in text else (text, "1")
    if not name or not number.isdecimal() or int(number) < 1:
        raise InvalidTask(f"{text!r} is no NAME or NAME:COUNT.", remedy="whim gpus list H100:8")
    return model.canonical(name), int(number)


def _ask(infra: Sequence[str], say: sdk.Say) -> tuple[dict[str, Any], str]:
    """What there is, and what the user could do to see more."""
    if not infra and not any(os.path.exists(path) for path in kubeconfig_paths()):
        return {"infras": [], "errors": []}, (
            "No kubeconfig was found, so these are the accelerators that are known; `whim local up` starts a "
            "Kubernetes on this machine."
        )
    try:
        say("asking every infrastructure")
        answer = sdk.gpus(infra, say)
    except WhimError as error:
        return {"infras": [], "errors": [error.to_wire()]}, ""
    nothing = not answer["errors"] and not any(one["machines"] or one["error"] for one in answer["infras"])
    return answer, "No infrastructure has accelerators that Kubernetes knows of." if nothing else ""


def _only(one: dict[str, Any], name: str | None, count: int) -> dict[str, Any]:
    machines = [
        machine
        for machine in one["machines"]
        if (name is None or model.same(machine["kind"], name)) and machine["capacity"] >= count
    ]
    return {**one, "machines": machines}


def _catalogue() -> Rows:
    return [
        {"name": name, "vendor": vendor, "memory_gb": memory}
        for vendor, names in model.CATALOGUE.items()
        for name, memory in sorted(names.items())
    ]


# ------------------------------------------------------------ on the screen


def _show(infras: Rows, machines: Rows, everything: bool, catalogue: Rows) -> None:
    if machines:
        print_table(
            ["INFRA", "GPU", "PER MACHINE", "MACHINES", "CAPACITY", "USED", "FREE", "SEEN"],
            [row for one in infras for row in _by_kind(one)],
        )
        if everything or len(machines) <= _MACHINES:
            click.echo()
            print_table(
                ["INFRA", "MACHINE", "GPU", "MEMORY", "CAPACITY", "USED", "FREE", "WHY NOT"],
                [_machine(one["infra"], machine) for one in infras for machine in one["machines"]],
            )
        else:
            click.echo(f"\n{len(machines)} machines; --all shows each of them.")
    if catalogue:
        if machines:
            click.echo()
        print_table(
            ["GPU", "VENDOR", "MEMORY"],
            [[row["name"], row["vendor"], f"{row['memory_gb']}GB"] for row in catalogue],
        )


def _by_kind(one: dict[str, Any]) -> Iterable[list[object]]:
    kinds: dict[str, Rows] = {}
    for machine in one["machines"]:
        kinds.setdefault(machine["kind"], []).append(machine)
    seen = f"{one['age']:.0f}s ago" if one["age"] >= 1 else "now"
    for kind, machines in sorted(kinds.items()):
        sizes = sorted({machine["capacity"] for machine in machines})
        yield [
            one["infra"],
            kind,
            ", ".join(map(str, sizes)),
            len(machines),
            sum(machine["capacity"] for machine in machines),
            _sum(machine["used"] for machine in machines),
            _sum(machine["free"] for machine in machines),
            seen,
        ]


def _sum(amounts: Iterable[int | None]) -> str:
    found = list(amounts)
    return "?" if None in found else str(sum(amount or 0 for amount in found))


def _machine(infra: str, machine: dict[str, Any]) -> list[object]:
    memory = machine.get("memory_gib")
    return [
        infra,
        machine["node"],
        machine["kind"],
        f"{memory:.0f}Gi" if memory else None,
        machine["capacity"],
        _sum([machine["used"]]),
        _sum([machine["free"]]),
        machine["trouble"],
    ]


def _troubles(infras: Rows, errors: Rows) -> Iterable[str]:
    for one in infras:
        if one["error"]:
            said = str(one["error"])
            line = said if said.startswith(one["infra"]) else f"{one['infra']}: {said}"
            old = f" What is shown of it was seen {one['age']:.0f} s ago." if one["machines"] else ""
            yield line + old + (f"  Try: {one['remedy']}" if one["remedy"] else "")
    for error in errors:
        yield str(error["message"]) + (f"  Try: {error['remedy']}" if error.get("remedy") else "")
