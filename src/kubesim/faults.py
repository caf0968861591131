"""Faults of a running cluster, from Python: what `kubesim fault` does, for tests and programs.

    faults = Faults.of("dev")
    with faults.inject("hang", verbs=["list"], resources=["pods"]):
        ...                                             # every list of pods hangs; here it does
    fault = faults.add("status", code=503, probability=0.2, seed=7)
    assert faults.get(fault.id).struck > 3
    faults.clear()

The road to the cluster is its control socket, which no fault can block. What cannot be done raises a ClusterError:
InvalidOption for a fault that cannot be, FaultNotFound, RuntimeUnavailable when the cluster does not run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubesim.apiserver.faults.kinds import KINDS
from kubesim.apiserver.faults.presets import PRESETS
from kubesim.apiserver.faults.spec import FaultRefused, Match, NoSuchFault, Spec, Value, from_json
from kubesim.cluster.asking import ask
from kubesim.cluster.errors import FaultNotFound, InvalidOption
from kubesim.cluster.home import Home

__all__ = ["KINDS", "PRESETS", "Ask", "Fault", "Faults"]

Ask = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault as it was when it was asked for."""

    id: str
    spec: Spec
    state: str
    """`active`, `spent` (it has struck as often as it may) or `over` (its time has passed)."""
    struck: int
    """How many requests, or connections, it has struck."""
    left: float | None
    """Seconds until it is over; None when it stays until it is removed."""
    warnings: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return self.spec.kind

    @property
    def match(self) -> Match:
        return self.spec.match


class Faults:
    """The faults of one cluster. May be used from any thread; each call takes a moment, and no longer than 5 s."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    @classmethod
    def of(cls, name: str, *, home: Home | None = None) -> Faults:
        """Those of the cluster of this name, in `$KUBESIM_HOME` or the home that is given."""
        paths = (home or Home.from_environment()).cluster(name)
        return cls(lambda command, arguments: ask(paths, command, arguments))

    def add(
        self,
        kind: str,
        *,
        verbs: Sequence[str] = (),
        groups: Sequence[str] = (),
        resources: Sequence[str] = (),
        subresources: Sequence[str] = (),
        namespaces: Sequence[str] = (),
        names: Sequence[str] = (),
        paths: Sequence[str] = (),
        user_agents: Sequence[str] = (),
        users: Sequence[str] = (),
        probability: float = 1.0,
        count: int | None = None,
        seed: int | None = None,
        seconds: float | None = None,
        **parameters: Value | None,
    ) -> Fault:
        """Set a fault, until it is removed or for so many seconds. The parameters are those of its kind."""
        if kind in PRESETS:
            raise InvalidOption(f"{kind} is a preset, of several faults.", remedy=f"Use preset({kind!r}).")
        arguments = {
            "kind": kind,
            "verbs": verbs,
            "groups": groups,
            "resources": resources,
            "subresources": subresources,
            "namespaces": namespaces,
            "names": names,
            "paths": paths,
            "user_agents": user_agents,
            "users": users,
            "probability": probability,
            "count": count,
            "seed": seed,
            "seconds": seconds,
            "parameters": parameters,
        }
        return self._added(arguments)[0]

    def preset(
        self, name: str, *, seed: int | None = None, seconds: float | None = None
    ) -> tuple[Fault, ...]:
        """Set the faults of a story; `remove(name)` removes all of them."""
        if name not in PRESETS:
            raise InvalidOption(
                f"There is no preset {name!r}.", remedy=f"The presets are {', '.join(PRESETS)}."
            )
        return self._added({"kind": name, "seed": seed, "seconds": seconds})

    def list(self) -> list[Fault]:
        """All that are set, and the newest of those that have ended by themselves."""
        return [_fault(one) for one in self._said("fault.list", {})["faults"]]

    def get(self, id: str) -> Fault:
        """One of them, as it is now."""
        for fault in self.list():
            if fault.id == id:
                return fault
        raise FaultNotFound(f"There is no fault {id!r}.")

    def remove(self, *ids: str) -> None:
        """Remove faults, by their ids or the names of presets; requests that they hold go on."""
        self._said("fault.remove", {"ids": ids})

    def clear(self) -> None:
        """Remove all."""
        self._said("fault.clear", {})

    @contextlib.contextmanager
    def inject(self, kind: str, **options: Any) -> Iterator[Fault]:
        """A fault, or a preset (its first fault is given), for as long as the context lasts."""
        added = self.preset(kind, **options) if kind in PRESETS else (self.add(kind, **options),)
        try:
            yield added[0]
        finally:
            for fault in added:
                # Somebody else may have removed it inside.
                with contextlib.suppress(FaultNotFound):
                    self.remove(fault.id)

    def _added(self, arguments: Mapping[str, Any]) -> tuple[Fault, ...]:
        said = self._said("fault.add", arguments)
        return tuple(_fault(one, tuple(said.get("warnings", ()))) for one in said["faults"])

    def _said(self, command: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self._ask(command, arguments)
        except FaultRefused as error:  # without a control socket between us
            raise InvalidOption(error.message, remedy=error.remedy or None) from error
        except NoSuchFault as error:
            raise FaultNotFound(f"There is no fault {str(error.args[0])!r}.") from error


def _fault(value: Mapping[str, Any], warnings: tuple[str, ...] = ()) -> Fault:
    about = {"id", "state", "struck", "left"}
    spec = from_json({key: one for key, one in value.items() if key not in about})
    left = value["left"]
    return Fault(
        id=str(value["id"]),
        spec=spec,
        state=str(value["state"]),
        struck=int(value["struck"]),
        left=float(left) if left is not None else None,
        warnings=warnings,
    )
