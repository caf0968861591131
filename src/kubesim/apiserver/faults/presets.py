"""Stories: faults that come together, each of which could be set by itself. Nothing here can do more than `kinds`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kubesim.apiserver.faults.spec import FaultRefused, Match, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    summary: str
    faults: tuple[Spec, ...]


_CHANGES = Match(verbs=("create", "update", "patch", "delete", "deletecollection"))

PRESETS: Mapping[str, Preset] = {
    "vpn-drop": Preset(
        summary="the way to the server is lost without a word: packets go nowhere, open watches fall silent",
        faults=(Spec(kind="partition"),),
    ),
    "apiserver-overloaded": Preset(
        summary="everything is slow, and every third request is told to come again later",
        faults=(
            Spec(kind="delay", parameters={"delay": 1.0, "jitter": 2.0}),
            Spec(kind="status", probability=0.33, parameters={"code": 429, "retry_after": 1}),
        ),
    ),
    "apiserver-restart": Preset(
        summary="all connections are reset and nobody listens; end it with --for",
        faults=(Spec(kind="refuse", parameters={"how": "refused", "existing": True}),),
    ),
    "etcd-slow": Preset(
        summary="changes take seconds, and some are reported as failed although they happened",
        faults=(
            Spec(kind="delay", match=_CHANGES, parameters={"delay": 2.0, "jitter": 3.0}),
            Spec(
                kind="status",
                match=_CHANGES,
                probability=0.25,
                parameters={"code": 504, "applied": True, "message": "etcdserver: request timed out"},
            ),
        ),
    ),
    "flaky-network": Preset(
        summary="one answer in ten is torn off, and one connection in ten",
        faults=(
            Spec(kind="reset", probability=0.1),
            Spec(kind="refuse", probability=0.1, parameters={"how": "reset"}),
        ),
    ),
    "captive-portal": Preset(
        summary="a proxy answers everything with its login page",
        faults=(Spec(kind="garbage", parameters={"how": "html"}),),
    ),
    "credentials-revoked": Preset(
        summary="nobody is known any more", faults=(Spec(kind="status", parameters={"code": 401}),)
    ),
    "watch-churn": Preset(
        summary="watches break after five events, and every other one has to begin anew (410)",
        faults=(
            Spec(kind="cut", probability=0.5, parameters={"events": 5, "how": "expired"}),
            Spec(kind="cut", parameters={"events": 5, "how": "drop"}),
        ),
    ),
}


def faults_of(name: str, *, seed: int | None = None, seconds: float | None = None) -> list[Spec]:
    """The faults of a story. Raises FaultRefused."""
    preset = PRESETS.get(name)
    if preset is None:
        raise FaultRefused(f"There is no preset {name!r}.", remedy=f"The presets are {', '.join(PRESETS)}.")
    return [
        replace(one, preset=name, seconds=seconds, seed=one.seed if seed is None else seed)
        for one in preset.faults
    ]
