"""The embedded Kubernetes is another program: what it says and how it ends is all that counts."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import kubewire.errors as kube
from kubewire.requests import Response
from whimbrel.infra import local
from whimbrel.infra.kubernetes.infra import KubernetesInfra
from whimbrel.infra.local import Local, LocalState
from whimbrel.model.errors import ContextNotFound, InfraRefused, LeftBehind, Unreachable

from .fake_api import FakeApi, status

pytestmark = pytest.mark.anyio


def kubesim(tmp_path: Path, body: str) -> list[str]:
    """A program that stands for kubesim."""
    script = tmp_path / "kubesim.py"
    log = str(tmp_path / "calls")
    script.write_text(
        "import json, sys, time\n"
        "args = sys.argv[1:]\n"
        f"open({log!r}, 'a').write(' '.join(args) + '\\n')\n"
        f"{body}\n"
    )
    return [sys.executable, str(script)]


def calls(tmp_path: Path) -> list[str]:
    """What it was called with."""
    return (tmp_path / "calls").read_text().splitlines()


def always(infra: KubernetesInfra) -> Callable[[], Awaitable[KubernetesInfra]]:
    """The way to it."""

    async def get() -> KubernetesInfra:
        return infra

    return get


def listing(status: str, kubeconfig: str = "/k") -> str:
    """The answer of `get clusters`."""
    found = [
        {"name": "other", "status": "Running"},
        {"name": "local", "status": status, "kubeconfig": kubeconfig},
    ]
    return f"print(json.dumps({found!r}))"


async def test_up_creates_it_with_a_process_node_in_the_clients_kubeconfig(tmp_path: Path) -> None:
    said: list[str] = []
    body = "print('Created cluster', file=sys.stderr); print('{}')"
    await Local(["/k"], command=kubesim(tmp_path, body)).up(said.append)
    [call] = calls(tmp_path)
    assert call.startswith("create cluster --name local --process-node")
    assert "--keep-current-context" in call
    assert call.endswith("--kubeconfig /k")
    assert said[-1] == "Created cluster"


async def test_a_failure_is_told_in_its_words(tmp_path: Path) -> None:
    body = "print('Error: the port is taken.', file=sys.stderr); sys.exit(10)"
    with pytest.raises(InfraRefused, match="the port is taken") as caught:
        await Local(["/k"], command=kubesim(tmp_path, body)).up(lambda text: None)
    assert "kubesim logs" in (caught.value.remedy or "")


async def test_a_command_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "UP_TIMEOUT", 0.5)
    started = time.monotonic()
    with pytest.raises(Unreachable, match="did not end within"):
        await Local(["/k"], command=kubesim(tmp_path, "time.sleep(60)")).up(lambda text: None)
    assert time.monotonic() - started < 10


async def test_down_deletes_it_and_never_by_force(tmp_path: Path) -> None:
    await Local(["/k"], command=kubesim(tmp_path, "")).down(lambda text: None)
    assert calls(tmp_path) == ["delete cluster --name local"]


async def test_a_down_that_is_refused_keeps_everything_and_names_force(tmp_path: Path) -> None:
    body = "print('its data is corrupt', file=sys.stderr); sys.exit(6)"
    with pytest.raises(LeftBehind, match="its data is corrupt") as caught:
        await Local(["/k"], command=kubesim(tmp_path, body)).down(lambda text: None)
    assert "--force" in (caught.value.remedy or "")


@pytest.mark.parametrize("status", ["Running", "Stopped", "Dead", "Unavailable"])
async def test_its_state_is_what_it_says(tmp_path: Path, status: str) -> None:
    assert await Local(["/k"], command=kubesim(tmp_path, listing(status))).state() == LocalState(status)


async def test_no_such_cluster_is_absent(tmp_path: Path) -> None:
    assert await Local(["/k"], command=kubesim(tmp_path, "print('[]')")).state() is LocalState.ABSENT


async def test_it_runs_for_us_only_when_our_kubeconfig_leads_to_it(tmp_path: Path) -> None:
    command = kubesim(tmp_path, listing("Running"))
    assert await Local(["/k"], command=command).running()
    assert not await Local(["/another"], command=command).running()


async def test_nonsense_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(InfraRefused, match="unexpected"):
        await Local(["/k"], command=kubesim(tmp_path, "print('not json')")).state()


async def test_whether_it_runs_is_asked_of_itself_where_that_can_be(
    tmp_path: Path, infra: KubernetesInfra, api: FakeApi
) -> None:
    place = Local(["/k"], infra=always(infra), command=kubesim(tmp_path, "print('{}')"))
    assert await place.running()
    api.refuse = lambda verb, path: status(503, "ServiceUnavailable", "starting")
    assert not await place.running()
    assert not (tmp_path / "calls").exists()


async def test_a_context_that_is_not_there_yet_does_not_run(tmp_path: Path) -> None:
    async def absent() -> KubernetesInfra:
        raise ContextNotFound

    assert not await Local(["/k"], infra=absent, command=kubesim(tmp_path, "")).running()


async def test_after_up_an_older_failure_does_not_count(
    tmp_path: Path, infra: KubernetesInfra, api: FakeApi
) -> None:
    def gone(verb: str, path: str) -> Response:
        raise kube.Unreachable("https://127.0.0.1:1", "refused")

    api.refuse = gone
    place = Local(["/k"], infra=always(infra), command=kubesim(tmp_path, "print('{}')"))
    assert not await place.running()
    assert infra.breaker.state == "open"
    api.refuse = lambda verb, path: None
    await place.up(lambda text: None)
    assert await place.running()
