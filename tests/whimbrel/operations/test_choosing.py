"""Where a cluster goes, and what is said when the place does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from whimbrel.infra.base import Infra, NodeShape
from whimbrel.model.errors import Unreachable
from whimbrel.model.task import Amount, Resources
from whimbrel.operations import choosing
from whimbrel.operations.tools import Local, Paths

pytestmark = pytest.mark.anyio


class _Local:
    name = "k8s/kubesim-local"

    async def running(self) -> bool:
        return False

    async def up(self, progress: object) -> None:
        raise AssertionError

    async def down(self, progress: object) -> None:
        raise AssertionError


class _Silent:
    """Places of which none ever answers, and the embedded Kubernetes does not run."""

    async def get(self, infra: str, kubeconfig: Paths) -> Infra:
        if infra == "k8s/kubesim-local":
            raise Unreachable
        await asyncio.Event().wait()
        raise AssertionError

    async def candidates(self, wanted: str | None, kubeconfig: Paths) -> Sequence[str]:
        return [wanted or "k8s/silent"]

    async def known(self, kubeconfig: Paths) -> Sequence[str]:
        return []

    async def aclose(self) -> None:
        return

    def local(self, kubeconfig: Paths) -> Local:
        return _Local()

    def default_shape(self, infra: str) -> NodeShape:
        return NodeShape(cpus=1)


async def test_a_place_that_does_not_answer_is_unreachable_and_not_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The exit code tells a script whether to ask for less or to mend the network."""
    monkeypatch.setattr(choosing, "BUDGET", 0.05)
    with pytest.raises(Unreachable, match="k8s/silent did not answer"):
        await choosing.choose_place(_Silent(), "k8s/silent", 1, Resources(), [])


@pytest.mark.parametrize(("resources", "asked"), [({"memory": 1e6}, "GiB memory"), ({"cpus": 1e6}, "CPUs")])
async def test_more_than_this_machine_has_is_refused_before_anything_is_started(
    resources: dict[str, float], asked: str
) -> None:
    """With what it has."""
    wanted = Resources(**{name: Amount(value=value) for name, value in resources.items()})
    choice = await choosing.choose_place(_Silent(), "local", 1, wanted, [])
    assert choice.chosen is None
    assert "this machine has" in choice.offers[0].reason
    assert asked in choice.offers[0].reason
