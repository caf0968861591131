"""Where a cluster goes, and what is said when the place does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from whimbrel.infra.base import Infra, NodeShape, Offer
from whimbrel.infra.provision import Provision
from whimbrel.model.config import Config
from whimbrel.model.configreader import read_config
from whimbrel.model.errors import Unreachable
from whimbrel.model.task import Amount, Resources, Task, VolumeMount
from whimbrel.model.yamltask import load_task
from whimbrel.operations import choosing
from whimbrel.operations.ask import Ask
from whimbrel.operations.tools import Local, Paths
from whimbrel.store.volumes import VolumeRow

pytestmark = pytest.mark.anyio


def asked(infra: str | None, resources: Resources, config: Config = Config()) -> Ask:  # noqa: B008 # frozen
    task = Task(run="x", resources=replace(resources, infra=infra))
    return Ask(cluster="c", task=task, kubeconfig=(), config=config)


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

    async def candidates(self, wanted: str | None, kubeconfig: Paths, config: Config) -> Sequence[str]:
        return [wanted or "k8s/silent"]

    async def known(self, kubeconfig: Paths, config: Config) -> Sequence[str]:
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
        await choosing.choose_place(_Silent(), asked("k8s/silent", Resources()), [])


@pytest.mark.parametrize(("resources", "named"), [({"memory": 1e6}, "GiB memory"), ({"cpus": 1e6}, "CPUs")])
async def test_more_than_this_machine_has_is_refused_before_anything_is_started(
    resources: dict[str, float], named: str
) -> None:
    """With what it has."""
    wanted = Resources(**{name: Amount(value=value) for name, value in resources.items()})
    choice = await choosing.choose_place(_Silent(), asked("local", wanted), [])
    assert choice.chosen is None
    assert "this machine has" in choice.offers[0].reason
    assert named in choice.offers[0].reason


class _Two(_Silent):
    """A place that never answers, and one that has room at once."""

    def __init__(self) -> None:
        self.asked: dict[str, Provision] = {}

    async def candidates(self, wanted: str | None, kubeconfig: Paths, config: Config) -> Sequence[str]:
        return ["k8s/silent", "k8s/well"] if wanted == "k8s" else [wanted or ""]

    async def get(self, infra: str, kubeconfig: Paths) -> Infra:
        if infra == "k8s/well":
            return _Well(self)  # type: ignore[return-value] # only asked for an offer
        return await super().get(infra, kubeconfig)


class _Well:
    def __init__(self, world: _Two) -> None:
        self._world = world

    async def offer(self, num_nodes: int, shape: NodeShape, provision: Provision) -> Offer:
        self._world.asked["k8s/well"] = provision
        return Offer(infra="k8s/well", feasible=True, shape=shape)


async def test_a_silent_place_holds_nobody_up_who_does_not_need_it() -> None:
    async with asyncio.timeout(choosing.BUDGET / 2):
        choice = await choosing.choose_place(_Two(), asked("k8s", Resources()), [])
    assert [(offer.infra, offer.feasible) for offer in choice.offers] == [
        ("k8s/silent", False),
        ("k8s/well", True),
    ]
    assert "has not answered" in choice.offers[0].reason


async def test_the_settings_of_the_file_the_context_and_the_task_reach_the_place() -> None:
    world = _Two()
    config = read_config(
        "kubernetes:\n  namespace: all\n  context_configs:\n    well: {namespace: own, kueue: {local_queue_name: q}}\n",
        "",
    )
    task = load_task(
        "run: x\nresources: {infra: k8s, ports: 80, image_id: docker:alpine, labels: {a: b}}\n"
        "config: {kubernetes: {provision_timeout: -1, custom_metadata: {labels: {a: c, d: e}}}}\n"
    )
    await choosing.choose_place(world, Ask(cluster="c", task=task, kubeconfig=(), config=config), [])
    provision = world.asked["k8s/well"]
    assert (provision.namespace, provision.queue, provision.image) == ("own", "q", "alpine")
    assert provision.labels == {"a": "b", "d": "e"}
    assert (provision.ports, provision.port_mode) == ((80,), "loadbalancer")
    assert provision.patience == 7 * 86400


async def test_a_task_goes_where_its_volume_is() -> None:
    row = VolumeRow(
        uid="u", name="data", status="READY", infra="k8s/well", kubeconfig=[], identity="", namespace="ml",
        claim="data-claim", spec={}, phase="Bound", user="", created_at=0, observed_at=None, closed_at=None,
        last_error=None,
    )  # fmt: skip
    world = _Two()
    task = Task(run="x", resources=Resources(infra="k8s"), volumes={"/mnt/data": VolumeMount(name="data")})
    choice = await choosing.choose_place(world, Ask(cluster="c", task=task, kubeconfig=()), [row])
    assert choice.offers[0].reason == "the volume data is in k8s/well"
    assert world.asked["k8s/well"].namespace == "ml"
    assert world.asked["k8s/well"].mounts[0].claim == "data-claim"
