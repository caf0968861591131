"""The kinds of faults: what each does, what can be said about it, and which combinations cannot be.

One table for the command line, the Python side, the page of the documentation and the server. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kubesim.apiserver.faults.spec import FaultRefused, Spec, Value

VERBS = (
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "post",
    "put",
    "head",
)
CHANNELS = ("exec", "attach", "portforward")
"""Subresources that become a WebSocket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Something that can be said about a fault."""

    type: type
    help: str
    default: Value | None = None
    lowest: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()

    def checked(self, name: str, value: Value) -> Value:
        """The value in its type. Raises FaultRefused."""
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.type) or (self.type is not bool and isinstance(value, bool)):
            raise FaultRefused(f"{name} is {_a(self.type)}, not {value!r}.")
        if self.choices and value not in self.choices:
            raise FaultRefused(f"{name} is one of {', '.join(self.choices)}, not {value!r}.")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.lowest is not None and value < self.lowest:
                raise FaultRefused(f"{name} is at least {self.lowest:g}, not {value:g}.")
            if self.above is not None and value <= self.above:
                raise FaultRefused(f"{name} is more than {self.above:g}, not {value:g}.")
        return value


def _a(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    summary: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    verbs: tuple[str, ...] = ()
    """The only ones that it can be about; empty: all."""
    connections: bool = False
    """It strikes before there is a request."""
    channels: bool = False
    """It can strike a WebSocket as well."""
    outcome: bool = False
    """It decides how a request ends: the first one that fits does so alone."""


_APPLIED = "Whether the server carries the request out although its answer is lost."
_BYTES = "How much of the answer's body gets through.  [default: half]"

KINDS: Mapping[str, Kind] = {
    "hang": Kind(
        summary="the request gets no answer until the fault is removed, and then goes on",
        parameters={"applied": Parameter(type=bool, default=False, help=_APPLIED)},
        channels=True,
        outcome=True,
    ),
    "delay": Kind(
        summary="the request is looked at only after a while",
        parameters={
            "delay": Parameter(type=float, above=0, help="Seconds to wait."),
            "jitter": Parameter(type=float, default=0.0, lowest=0, help="At most so many seconds more."),
        },
        channels=True,
    ),
    "drip": Kind(
        summary="the answer's body comes slowly",
        parameters={"rate": Parameter(type=int, default=100, lowest=1, help="Bytes per second.")},
    ),
    "reset": Kind(
        summary="the connection is reset (TCP RST) in the middle of the answer",
        parameters={
            "bytes": Parameter(type=int, lowest=0, help=_BYTES),
            "applied": Parameter(type=bool, default=True, help=_APPLIED),
        },
        channels=True,
        outcome=True,
    ),
    "truncate": Kind(
        summary="the answer's body ends early, and with it the connection",
        parameters={"bytes": Parameter(type=int, lowest=0, help=_BYTES)},
        outcome=True,
    ),
    "status": Kind(
        summary="the request is answered with an error",
        parameters={
            "code": Parameter(type=int, lowest=400, help="The HTTP code, such as 429, 500 or 503."),
            "retry_after": Parameter(
                type=int, lowest=0, help="Seconds in Retry-After; 0 for none.  [default: 1 for 429 and 503]"
            ),
            "message": Parameter(type=str, help="The message of the error."),
            "how": Parameter(
                type=str,
                default="server",
                choices=("server", "text", "proxy"),
                help="A Status as the API server answers, plain text as its outer filters do, or the HTML of a proxy.",
            ),
            "applied": Parameter(type=bool, default=False, help=_APPLIED),
        },
        channels=True,
        outcome=True,
    ),
    "garbage": Kind(
        summary="the answer is something else",
        parameters={
            "how": Parameter(
                type=str,
                default="body",
                choices=("body", "html", "http"),
                help="200 with bytes that are no JSON, 200 with a login page, or bytes that are no HTTP.",
            ),
            "applied": Parameter(type=bool, default=False, help=_APPLIED),
        },
        outcome=True,
    ),
    "cut": Kind(
        summary="a watch ends after some events or some time",
        parameters={
            "events": Parameter(type=int, lowest=0, help="After so many events."),
            "after": Parameter(type=float, above=0, help="After so many seconds."),
            "how": Parameter(
                type=str,
                default="drop",
                choices=("drop", "end", "expired"),
                help="The connection closes in the middle, the stream ends in order, or an event says 410 Expired.",
            ),
        },
        verbs=("watch",),
        outcome=True,
    ),
    "stale": Kind(
        summary="a get or list is answered as of an earlier revision",
        parameters={
            "revisions": Parameter(type=int, lowest=1, help="So many revisions ago."),
            "age": Parameter(
                type=float, above=0, help="So many seconds ago, but not from before the fault was set."
            ),
        },
        verbs=("get", "list"),
    ),
    "refuse": Kind(
        summary="new connections are refused",
        parameters={
            "how": Parameter(
                type=str,
                choices=("refused", "reset", "closed"),
                help="Nobody listens, or the connection is accepted and then reset or closed at once."
                "  [default: refused; reset with a probability or count]",
            ),
            "existing": Parameter(type=bool, default=False, help="Reset the connections that are open, too."),
        },
        connections=True,
    ),
    "partition": Kind(
        summary="nothing comes through on any connection, open or new, and nobody is told",
        connections=True,
    ),
    "certificate": Kind(
        summary="new connections are shown a certificate that is not to be trusted",
        parameters={
            "how": Parameter(
                type=str,
                default="expired",
                choices=("expired", "wrong-name", "untrusted"),
                help="Expired yesterday, made out to another host, or signed by another authority.",
            )
        },
        connections=True,
    ),
}


def checked(spec: Spec) -> Spec:
    """The same fault with its defaults. Raises FaultRefused for what cannot be."""
    kind = KINDS.get(spec.kind)
    if kind is None:
        raise FaultRefused(f"There is no fault {spec.kind!r}.", remedy=f"The kinds are {', '.join(KINDS)}.")
    if not 0 < spec.probability <= 1:
        raise FaultRefused(f"A probability is more than 0 and at most 1, not {spec.probability:g}.")
    if spec.count is not None and spec.count < 1:
        raise FaultRefused(f"A count is at least 1, not {spec.count}.")
    if spec.seconds is not None and not 0 < spec.seconds < 1e7:
        raise FaultRefused(f"A fault lasts more than 0 seconds, not {spec.seconds:g}.")
    _check_match(spec, kind)
    parameters = _parameters(spec, kind)
    _check_parameters(spec, parameters)
    return replace(spec, parameters=parameters)


def _check_match(spec: Spec, kind: Kind) -> None:
    match = spec.match
    if kind.connections and match.named:
        raise FaultRefused(
            f"{spec.kind} strikes connections, on which there is no request yet: it cannot be matched by "
            f"{match.named[0]}.",
            remedy="Leave that out, or take a fault of requests such as hang or reset.",
        )
    for verb in match.verbs:
        if verb not in VERBS:
            raise FaultRefused(f"{verb!r} is no verb.", remedy=f"The verbs are {', '.join(VERBS)}.")
        if kind.verbs and verb not in kind.verbs:
            raise FaultRefused(
                f"{spec.kind} is about {' and '.join(kind.verbs)}, not about {verb}.",
                remedy=f"Leave the verbs out, or name {' or '.join(kind.verbs)}.",
            )
    for subresource in match.subresources:
        if subresource in CHANNELS and not kind.channels:
            able = ", ".join(name for name, one in KINDS.items() if one.channels)
            raise FaultRefused(
                f"{spec.kind} cannot strike {subresource}, which is a WebSocket.",
                remedy=f"These can: {able}.",
            )
    only_paths = match.paths and (
        match.groups or match.resources or match.subresources or match.namespaces or match.names
    )
    if only_paths and not any(one.startswith(("/api", "*", "?", "[")) for one in match.paths):
        raise FaultRefused(
            f"A request for the path {match.paths[0]} is about no resource: both together never fit.",
            remedy="Set two faults.",
        )


def _parameters(spec: Spec, kind: Kind) -> dict[str, Value]:
    for name in spec.parameters:
        if name not in kind.parameters:
            takes = ", ".join(kind.parameters) or "none"
            raise FaultRefused(
                f"{spec.kind} has no parameter {name!r}.", remedy=f"Its parameters are: {takes}."
            )
    found = {name: kind.parameters[name].checked(name, value) for name, value in spec.parameters.items()}
    known = {name: found.get(name, one.default) for name, one in kind.parameters.items()}
    return {name: value for name, value in known.items() if value is not None}


def _check_parameters(spec: Spec, parameters: dict[str, Value]) -> None:
    some = spec.probability < 1 or spec.count is not None
    match spec.kind:
        case "delay" if "delay" not in parameters:
            raise FaultRefused("A delay needs its length.", remedy="Say how long: delay=2.0, or --delay 2s.")
        case "status":
            _check_status(parameters)
        case "cut" if "events" not in parameters and "after" not in parameters:
            raise FaultRefused(
                "A cut needs to know when: after some events or some time.",
                remedy="Give events=10 or after=30.0, or --events 10 or --after 30s.",
            )
        case "stale" if ("revisions" in parameters) == ("age" in parameters):
            raise FaultRefused(
                "A stale read needs its age, in revisions or in seconds, not both.",
                remedy="Give revisions=5 or age=10.0, or --revisions 5 or --age 10s.",
            )
        case "reset" if not parameters["applied"] and "bytes" in parameters:
            raise FaultRefused(
                "A request that is not carried out has no answer of which some bytes could get through.",
                remedy="Leave one of bytes and applied out.",
            )
        case "refuse":
            how = parameters.setdefault("how", "reset" if some else "refused")
            if how == "refused" and some:
                raise FaultRefused(
                    "While nobody listens every connection is refused: that has no probability or count.",
                    remedy="Take how=reset or how=closed.",
                )
        case "partition" if some:
            raise FaultRefused(
                "A partition is about all connections: it has no probability or count.",
                remedy="Take hang, for some requests.",
            )
        case _:
            pass


def _check_status(parameters: dict[str, Value]) -> None:
    if "code" not in parameters:
        raise FaultRefused("A status needs its code.", remedy="Say which: code=503, or --code 503.")
    code = parameters["code"]
    if not isinstance(code, int) or code > 599:
        raise FaultRefused(f"A code of an error is 400 to 599, not {code}.")
    if code in (429, 503):
        parameters.setdefault("retry_after", 1)
