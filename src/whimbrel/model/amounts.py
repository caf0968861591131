"""The small languages inside the fields of a task: `4+`, `16GB+`, `H100:8`, `k8s/CONTEXT`, `docker:IMAGE`, `8000-8010`.

Each function takes text and gives the value, or raises `Refused` with what was expected and what would mend it.
"""

from __future__ import annotations

import re

from whimbrel.model import gpus
from whimbrel.model.task import Accelerators, Amount
from whimbrel.model.taskfields import feature

SKYPILOT_INFRAS = (
    "aws", "azure", "gcp", "ibm", "lambda", "scp", "oci", "runpod", "vast", "vsphere", "cudo", "fluidstack",
    "paperspace", "primeintellect", "do", "nebius", "ssh", "slurm", "hyperbolic", "seeweb", "shadeform", "yotta",
    "mithril", "verda",
)  # fmt: skip

_UNITS = {"": 1.0, "g": 1.0, "m": 1 / 1024, "t": 1024.0, "k": 1 / 1024**2, "p": 1024.0**2}


class Refused(Exception):
    """The text is not what was expected."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)


def cpus(text: str) -> Amount:
    """`4`, `0.5` or `4+`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(\+?)", text.strip())
    if match is None:
        raise Refused(f"'{text}' is not a number of CPUs", "write for example 4, 0.5 or 4+")
    value = float(match[1])
    if not 0.001 <= value <= 1_000_000:
        raise Refused(f"{text} CPUs cannot be asked for", "the least is 0.001")
    return Amount(value=value, at_least=bool(match[2]))


def memory(text: str) -> Amount:
    """`16`, `16+`, `16GB+`, `512Mi`; without a unit it is GB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*?)(\+?)", text.strip().lower())
    if match is not None and match[2] == "x":
        raise Refused(feature("memory as a multiple of the CPUs"), "write the amount, for example 16GB")
    unit = match[2].removesuffix("ib").removesuffix("b").removesuffix("i") if match else "?"
    if match is None or unit not in _UNITS:
        raise Refused(f"'{text}' is not an amount of memory", "write for example 16, 16+, 16GB or 512MB")
    value = float(match[1]) * _UNITS[unit]
    if not 1 / 1024 <= value <= 1024.0**2:
        raise Refused(f"{text} of memory cannot be asked for", "the least is 1MB; without a unit it is GB")
    return Amount(value=value, at_least=bool(match[3]))


def accelerators(text: str) -> Accelerators:
    """`H100` or `H100:8`."""
    name, colon, count = text.strip().rpartition(":")
    if not colon:
        name, count = text.strip(), "1"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9 ._-]*", name):
        raise Refused(f"'{text}' is not an accelerator", "write for example H100 or H100:8")
    if name.lower().startswith("tpu-"):
        raise Refused(feature(f"the TPU '{name}'"))
    try:
        number = float(count)
    except ValueError:
        raise Refused(f"'{count}' is not a number of accelerators", f"write for example {name}:1") from None
    if 0 < number < 1:
        raise Refused(feature(f"a fraction of an accelerator ({text})"), f"write {name}:1")
    if number != number or number != int(min(number, 1e6)) or not 1 <= number <= 1024:
        raise Refused(f"'{count}' is not a number of accelerators", "write a whole number, 1 or more")
    return Accelerators(name=gpus.canonical(name), count=int(number))


def infra(text: str) -> str:
    """`k8s`, `k8s/CONTEXT` (also `kubernetes/...`) or `local`."""
    kind, slash, context = text.strip().partition("/")
    if kind.lower() in ("k8s", "kubernetes"):
        if slash and not context:
            raise Refused("the context is missing after 'k8s/'", "`whim check` lists the contexts")
        if context == "*":
            return "k8s"
        return f"k8s/{context}" if context else "k8s"
    if kind.lower() == "local" and not slash:
        return "local"
    if kind.lower() in SKYPILOT_INFRAS or kind == "*":
        raise Refused(feature(f"the infra '{text}'"), "write k8s, k8s/CONTEXT or local")
    hint = "write k8s, k8s/CONTEXT or local"
    if kind and not slash:
        hint += f"; for a context of your kubeconfig: k8s/{kind}"
    raise Refused(f"'{text}' is not an infra", hint)


MOST_PORTS = 100
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]*")


def image(text: str) -> str:
    """`docker:IMAGE` as the reference that Kubernetes pulls."""
    scheme, colon, name = text.strip().partition(":")
    if scheme != "docker" or not colon:
        raise Refused(
            f"'{text}' is not the image of a container",
            f"write docker:IMAGE, for example docker:{_suggested(text)}",
        )
    if not _IMAGE.fullmatch(name) or len(name) > 1000:
        raise Refused(f"'{name}' is not the name of an image", "write for example docker:python:3.12-slim")
    return name


def _suggested(text: str) -> str:
    name = text.strip()
    return name if _IMAGE.fullmatch(name) and not name.startswith("ami-") else "python:3.12-slim"


def ports(text: str) -> tuple[int, ...]:
    """`8080`, `8000-8010` or several with commas, in their order and each once."""
    found: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part.strip())
        if match is None:
            raise Refused(f"'{part.strip()}' is not a port", "write for example 8080 or 8000-8010")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= 65535:
            raise Refused(
                f"'{part.strip()}' is not a port", "ports go from 1 to 65535, the smaller one first"
            )
        if last - first >= MOST_PORTS:
            raise Refused(f"{part.strip()} are {last - first + 1} ports", f"open {MOST_PORTS} at most")
        found |= dict.fromkeys(range(first, last + 1))
    return tuple(found)


def disk(text: str) -> float:
    """`256`, `256GB` or `1TB`: GiB of disk on each node."""
    try:
        found = memory(text)
    except Refused:
        raise Refused(f"'{text}' is not a size of a disk", "write for example 100, 100GB or 1TB") from None
    return found.value


ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def assignments(items: list[str] | tuple[str, ...], option: str) -> dict[str, str | None]:
    """The values of `--env NAME=VALUE` and `--env NAME` (None: to be taken from the caller's environment)."""
    found: dict[str, str | None] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not ENV_NAME.fullmatch(name):
            raise Refused(f"{option} {name!r} is not the name of a variable", f"write {option} NAME=VALUE")
        found[name] = value if equals else None
    return found
