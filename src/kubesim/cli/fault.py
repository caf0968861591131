"""`kubesim fault`: make the API server of a cluster fail, on purpose and for chosen requests.

Which faults there are, and what can be said about each, is in one table (`apiserver.faults.kinds`); the options of
`fault add` are the members of that table, and a test holds that none is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from kubesim.apiserver.faults.kinds import KINDS, Parameter
from kubesim.apiserver.faults.presets import PRESETS
from kubesim.cli.durations import Seconds
from kubesim.cluster.home import DEFAULT_NAME

if TYPE_CHECKING:
    from kubesim.faults import Fault

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

_name = click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the cluster.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _several(*names: str, help: str) -> Decorator:
    return click.option(*names, multiple=True, help=help)


def _parameter_options(command: Command) -> Command:
    """An option for each parameter of each kind; one that several kinds have is one option."""
    kinds: dict[str, list[str]] = {}
    parameters: dict[str, Parameter] = {}
    for kind, about in KINDS.items():
        for name, parameter in about.parameters.items():
            kinds.setdefault(name, []).append(kind)
            parameters.setdefault(name, parameter)
    for name, parameter in reversed(parameters.items()):
        command = _parameter_option(name, parameter, kinds[name])(command)
    return command


def _parameter_option(name: str, parameter: Parameter, kinds: list[str]) -> Decorator:
    option = "--" + name.replace("_", "-")
    words = f"({', '.join(kinds)}) {parameter.help}"
    if name == "how":
        choices = "; ".join(f"{kind}: {', '.join(KINDS[kind].parameters['how'].choices)}" for kind in kinds)
        return click.option(option, metavar="WAY", help=f"In which way. {choices}.")
    if parameter.type is bool:
        both = (
            f"{option}/--not-{name}" if name == "applied" else option
        )  # one kind has it unless told otherwise
        return click.option(both, name, is_flag=True, default=None, help=words)
    kind: Any = {float: Seconds(), int: int, str: str}[parameter.type]
    return click.option(option, type=kind, help=words)


def _epilog() -> str:
    kinds = "\n".join(f"  {name:<12} {one.summary}" for name, one in KINDS.items())
    presets = "\n".join(f"  {name:<21} {one.summary}" for name, one in PRESETS.items())
    return f"\b\nKinds:\n{kinds}\n\n\b\nPresets, several faults at once:\n{presets}"


@click.group()
def fault() -> None:
    """Make the API server fail, on purpose: hang, reset, answer 503, and more."""


@fault.command("add", epilog=_epilog())
@click.argument("kind", metavar="KIND|PRESET")
@_name
@_several(
    "--verb", help="Only requests with this verb: get, list, watch, create, ... (several times: one of them)"
)
@_several("--group", help="Only this API group; `core` for the one without a name.")
@_several("--resource", help="Only this resource: plural, singular, kind or short name.")
@_several("--subresource", help="Only this subresource, such as status, log or exec.")
@_several("-n", "--namespace", help="Only in this namespace; * and ? are wildcards.")
@_several("--object", help="Only objects of this name; with wildcards.")
@_several("--path", help="Only this path, such as /livez or /openapi/*.")
@_several(
    "--user-agent", help="Only clients whose User-Agent begins like this, such as kubectl; with wildcards."
)
@_several("--user", help="Only this user, such as kubernetes-admin; with wildcards.")
@click.option(
    "--probability", type=float, default=1.0, help="Strike only some of these requests: 0.1 is one in ten."
)
@click.option("--count", type=int, help="Strike so many times, then no more.")
@click.option(
    "--seed", type=int, help="Of the probability: the same requests get the same faults again.  [default: 0]"
)
@click.option("--for", "seconds", type=Seconds(), help="End by itself after so long (30s, 2m).")
@_parameter_options
@_json
def add(
    kind: str, name: str, as_json: bool, probability: float, seconds: float | None, **options: Any
) -> None:
    """Set a fault. It is there until it is removed, or the cluster is stopped.

    Only clients from outside are struck: not the controllers, scheduler and kubelet in the cluster's own process, and
    not kubesim's own commands.
    """
    from kubesim.faults import Faults

    words = {
        "verbs": options.pop("verb"),
        "groups": options.pop("group"),
        "resources": options.pop("resource"),
        "subresources": options.pop("subresource"),
        "namespaces": options.pop("namespace"),
        "names": options.pop("object"),
        "paths": options.pop("path"),
        "user_agents": options.pop("user_agent"),
        "users": options.pop("user"),
    }
    faults = Faults.of(name)
    if kind in PRESETS:
        extra = [
            key for key, value in {**words, **options}.items() if key != "seed" and value not in ((), None)
        ]
        if extra or probability != 1.0:
            first = extra[0] if extra else "probability"
            raise click.UsageError(f"{kind} is a preset: it takes --for and --seed, and no {first}.")
        added = faults.preset(kind, seed=options["seed"], seconds=seconds)
    else:
        added = (faults.add(kind, **words, probability=probability, seconds=seconds, **options),)
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in added], indent=2))
        return
    for one in added:
        click.echo(one.id)
    for warning in added[0].warnings:
        click.echo(f"Warning: {warning}.", err=True)
    where = "" if name == DEFAULT_NAME else f" --name {name}"
    until = f"It ends by itself in {seconds:g} s, or" if seconds else "Remove it"
    what = kind if kind in PRESETS else added[0].id
    click.echo(f"{until} with: kubesim fault remove {what}{where}", err=True)


@fault.command("list")
@_name
@_json
def list_(name: str, as_json: bool) -> None:
    """Show the faults that are set, and what they have struck."""
    from kubesim.faults import Faults

    found = Faults.of(name).list()
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in found], indent=2))
        return
    if not found:
        click.echo("No faults are set.", err=True)
        return
    rows = [("ID", "STATE", "STRUCK", "LEFT", "FAULT", "REQUESTS")]
    rows += [
        (
            one.id,
            one.state,
            str(one.struck),
            "" if one.left is None else f"{one.left:.0f}s",
            _what(one),
            _which(one),
        )
        for one in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@fault.command("remove")
@click.argument("ids", metavar="[ID|PRESET]...", nargs=-1)
@_name
@click.option("--all", "every", is_flag=True, help="Remove all faults.")
def remove(ids: tuple[str, ...], name: str, every: bool) -> None:
    """Remove faults; requests that they hold go on."""
    from kubesim.faults import Faults

    if every == bool(ids):
        raise click.UsageError("Name the faults, or give --all. See what there is: kubesim fault list")
    faults = Faults.of(name)
    if every:
        faults.clear()
    else:
        faults.remove(*ids)


def _as_json(one: Fault) -> dict[str, Any]:
    return {"id": one.id, "state": one.state, "struck": one.struck, "left": one.left, **one.spec.to_json()}


def _what(one: Fault) -> str:
    spec = one.spec
    words = [
        spec.kind,
        *(f"{name}={_shown(value)}" for name, value in spec.parameters.items() if value is not False),
    ]
    if spec.probability < 1:
        words.append(f"probability={spec.probability:g}")
    if spec.count is not None:
        words.append(f"count={spec.count}")
    return " ".join(words)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if value is True else str(value)


def _which(one: Fault) -> str:
    if one.spec.kind in KINDS and KINDS[one.spec.kind].connections:
        return "connections"
    named = [f"{name}={','.join(getattr(one.match, name))}" for name in one.match.named]
    return " ".join(named) or "all"
