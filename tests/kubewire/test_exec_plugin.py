"""Credential plugins: real programs that answer, fail, hang, flood, print garbage or leave children behind."""

import asyncio
import json
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubewire.connection import Connection, ExecPlugin
from kubewire.errors import CredentialError
from kubewire.exec_plugin import exec_info, parse_credential, run_plugin
from kubewire.testing import Authority

pytestmark = pytest.mark.anyio

V1 = "client.authentication.k8s.io/v1"
V1BETA1 = "client.authentication.k8s.io/v1beta1"

Script = Callable[..., ExecPlugin]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Makes a plugin out of shell code."""

    def make(code: str, **fields: Any) -> ExecPlugin:
        path = tmp_path / "plugin"
        path.write_text(f"#!/bin/sh\n{code}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return ExecPlugin(command=str(path), **fields)

    return make


def credential(version: str = V1, **status: Any) -> str:
    """An ExecCredential as a plugin prints it."""
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def connection(**fields: Any) -> Connection:
    """A connection that a plugin may be told about."""
    return Connection(server="https://1.2.3.4:6443", **fields)


@pytest.mark.parametrize("version", [V1, V1BETA1])
async def test_a_plugin_answers_with_a_token(script: Script, version: str) -> None:
    plugin = script(f"echo '{credential(version, token='t0k3n')}'", api_version=version)
    answer = await run_plugin(connection(), plugin, timeout=10)
    assert answer.token == "t0k3n"
    assert answer.certificate is None
    assert answer.expires is None


async def test_a_plugin_answers_with_a_certificate_and_its_expiry(
    script: Script, authority: Authority
) -> None:
    issued = authority.client("alice")
    printed = credential(
        clientCertificateData=issued.certificate.decode(),
        clientKeyData=issued.key.decode(),
        expirationTimestamp="2030-01-01T00:00:00Z",
    )
    answer = await run_plugin(connection(), script(f"cat <<'END'\n{printed}\nEND"), timeout=10)
    assert answer.certificate is not None
    assert answer.certificate.chain == issued.certificate
    assert answer.expires == 1893456000.0


async def test_a_plugin_gets_its_arguments_environment_and_cluster(script: Script, tmp_path: Path) -> None:
    plugin = script(
        f"""printf '%s|%s|%s' "$1" "$EXTRA" "$HOME" > {tmp_path}/seen
        printf '%s' "$KUBERNETES_EXEC_INFO" > {tmp_path}/info
        if read -r line; then exit 9; fi
        echo '{credential(token="t")}'""",
        args=("first",),
        env=(("EXTRA", "more"),),
        provide_cluster_info=True,
    )
    there = connection(tls_server_name="api", exec_config={"audience": "a"})
    environ = {"PATH": os.environ["PATH"], "HOME": "/home/of/us"}
    await run_plugin(there, plugin, timeout=10, environ=environ, authority=b"PEM")
    assert (tmp_path / "seen").read_text() == "first|more|/home/of/us"
    assert json.loads((tmp_path / "info").read_text()) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://1.2.3.4:6443",
                "tls-server-name": "api",
                "certificate-authority-data": "UEVN",
                "config": {"audience": "a"},
            },
        },
    }


def test_a_plugin_that_does_not_ask_is_not_told_about_the_cluster() -> None:
    info = json.loads(exec_info(connection(), ExecPlugin(command="x")))
    assert info["spec"] == {"interactive": False}


async def test_a_plugin_that_hangs_is_killed_with_all_its_children(script: Script, tmp_path: Path) -> None:
    plugin = script(f"sleep 300 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/parent; wait")
    started = time.monotonic()
    with pytest.raises(CredentialError, match=r"did not finish within 0\.7 s and was killed") as caught:
        await run_plugin(connection(), plugin, timeout=0.7)
    assert plugin.command in caught.value.message
    assert time.monotonic() - started < 4.0
    for name in ("parent", "child"):
        await gone(int((tmp_path / name).read_text()))


async def test_a_plugin_that_ignores_signals_is_killed_too(script: Script) -> None:
    with pytest.raises(CredentialError, match="was killed"):
        await run_plugin(connection(), script("trap '' TERM INT HUP; while :; do sleep 1; done"), timeout=0.5)


async def test_cancelling_the_wait_kills_the_plugin(script: Script, tmp_path: Path) -> None:
    plugin = script(f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; sleep 300")
    task = asyncio.create_task(run_plugin(connection(), plugin, timeout=60))
    async with asyncio.timeout(10):
        while not (tmp_path / "pid").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(int((tmp_path / "pid").read_text()))


async def test_a_child_that_keeps_the_output_open_does_not_delay_the_answer(
    script: Script, tmp_path: Path
) -> None:
    plugin = script(f"sleep 300 & echo $! > {tmp_path}/child; echo '{credential(token='t')}'")
    started = time.monotonic()
    assert (await run_plugin(connection(), plugin, timeout=30)).token == "t"
    assert time.monotonic() - started < 20.0
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


async def test_a_plugin_that_prints_without_end_is_stopped(script: Script) -> None:
    with pytest.raises(CredentialError, match="was killed"):
        await run_plugin(
            connection(), script("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxx; done"), timeout=1.0
        )


async def test_a_failure_quotes_what_the_plugin_said(script: Script) -> None:
    plugin = script("echo 'please  log in' >&2; exit 3", install_hint="Install it.")
    with pytest.raises(CredentialError, match="failed with exit code 3: please log in") as caught:
        await run_plugin(connection(), plugin, timeout=10)
    assert caught.value.remedy == "Install it."


async def test_a_plugin_that_kills_itself_is_told_by_its_signal(script: Script) -> None:
    with pytest.raises(CredentialError, match="killed by signal 9"):
        await run_plugin(connection(), script("kill -9 $$"), timeout=10)


async def test_a_plugin_that_is_not_there_or_no_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="'no-such-plugin' is not installed") as caught:
        await run_plugin(
            connection(), ExecPlugin(command="no-such-plugin", install_hint="brew install it"), timeout=10
        )
    assert caught.value.remedy == "brew install it"
    (tmp_path / "text").write_text("no program")
    with pytest.raises(CredentialError, match="cannot be run"):
        await run_plugin(connection(), ExecPlugin(command=str(tmp_path / "text")), timeout=10)


async def test_a_plugin_that_insists_on_a_terminal_is_not_run() -> None:
    with pytest.raises(CredentialError, match="insists on a terminal"):
        await run_plugin(connection(), ExecPlugin(command="x", interactive_mode="Always"), timeout=10)


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("", "did not print an ExecCredential"),
        ("token: secret", "did not print an ExecCredential"),
        ('["secret"]', "did not print an ExecCredential"),
        ('{"kind": "Secret"}', "did not print an ExecCredential"),
        (credential(V1BETA1, token="secret"), "v1beta1"),
        (credential(), "neither a token nor a certificate"),
        (json.dumps({"apiVersion": V1, "kind": "ExecCredential"}), "without a status"),
        (credential(clientKeyData="secret"), "without its certificate"),
        (credential(token=["secret"]), "no strings"),
        (credential(token="secret", expirationTimestamp="soon"), "expirationTimestamp"),
    ],
)
def test_garbage_is_told_without_repeating_it(printed: str, words: str) -> None:
    with pytest.raises(CredentialError, match=words) as caught:
        parse_credential(printed.encode(), ExecPlugin(command="plug"))
    assert "secret" not in caught.value.message
    assert "'plug'" in caught.value.message


async def test_nothing_is_left_open(script: Script) -> None:
    plugin = script(f"echo '{credential(token='t')}'")
    await run_plugin(connection(), plugin, timeout=10)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await run_plugin(connection(), plugin, timeout=10)
        with pytest.raises(CredentialError):
            await run_plugin(connection(), ExecPlugin(command="no-such-plugin"), timeout=10)
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) <= before


async def gone(pid: int) -> None:
    """Wait until a process has ended (or waits for its parent to look)."""
    async with asyncio.timeout(5):
        while True:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                return
            if state == "Z":
                return
            await asyncio.sleep(0.02)
