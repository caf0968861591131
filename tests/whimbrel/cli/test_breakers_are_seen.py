"""What the guard of an infrastructure knows is told by the commands that name it, without a call."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner, Result

from whimbrel.cli import api, check, status
from whimbrel.client import sdk

OPEN = {"breaker": "open", "reason": "k8s/x did not answer", "since": 3.0, "retry_in": 12.4}
CLOSED = {"breaker": "closed", "reason": "", "since": None, "retry_in": None}


def run(command: Any, *argv: str) -> Result:
    """What a command prints."""
    result = CliRunner().invoke(command, list(argv), standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


@pytest.mark.parametrize(("state", "told"), [(OPEN, True), (CLOSED, False)])
def test_status_tells_that_a_clusters_infrastructure_is_known_not_to_answer(
    state: dict[str, Any], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {
        "name": "c1",
        "status": "UP",
        "infra": "k8s/x",
        "num_nodes": 1,
        "created_at": 0.0,
        "infra_state": state,
    }
    monkeypatch.setattr(sdk, "status", lambda *_, **__: {"clusters": [row], "errors": []})
    said = "c1: k8s/x is open, tried again in 12 s: k8s/x did not answer"
    assert (said in run(status.status).stderr) is told


def test_check_shows_each_breaker_and_what_is_wrong_with_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"infra": "k8s/good", "usable": True, "breaker": "closed", "version": "v1.36.0"}
    bad = {
        "infra": "k8s/bad",
        "usable": False,
        "breaker": "open",
        "reason": "it is silent",
        "remedy": "mend it",
    }
    errors = [{"code": "KubeconfigInvalid", "message": "/x does not exist.", "remedy": "check KUBECONFIG"}]
    monkeypatch.setattr(sdk, "check_all", lambda *_: {"results": [good, bad], "errors": errors})
    result = run(check.check)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["k8s/good", "yes", "closed", "v1.36.0"] in [line[:4] for line in lines]
    assert ["k8s/bad", "no", "open"] in [line[:3] for line in lines]
    assert "k8s/bad: it is silent\n  Try: mend it\n" in result.stderr
    assert "/x does not exist.\n  Try: check KUBECONFIG\n" in result.stderr


def test_api_info_names_the_breakers_that_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"state": "ready", "pid": 1, "infras": {"k8s/x": OPEN, "k8s/good": CLOSED}}
    monkeypatch.setattr(sdk, "api_info", lambda: info)
    printed = run(api.api, "info").stdout
    assert "k8s/x: open, tried again in 12 s" in printed
    assert "k8s/good" not in printed
