"""As whom each request is sent: precedence, renewal, and one plugin for many callers."""

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubewire.client import Client
from kubewire.connection import Connection, ExecPlugin
from kubewire.credentials import Credentials
from kubewire.deadlines import Deadlines
from kubewire.errors import CredentialError, Unauthorized
from kubewire.resources import PODS
from kubewire.testing import Exchange, http_server

pytestmark = pytest.mark.anyio

Make = Callable[..., Client]
SERVER = "https://1.2.3.4:6443"


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0  # 2001-09-09

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def counting_plugin(tmp_path: Path) -> Callable[..., ExecPlugin]:
    """A plugin whose n-th run answers with the token `token-n`."""

    def make(expires: str | None = None, before: str = "") -> ExecPlugin:
        path = tmp_path / "plugin"
        extra = f', \\"expirationTimestamp\\": \\"{expires}\\"' if expires else ""
        path.write_text(
            f"""#!/bin/sh
            echo run >> {tmp_path}/runs
            n=$(wc -l < {tmp_path}/runs)
            {before}
            echo "{{\\"apiVersion\\": \\"client.authentication.k8s.io/v1\\", \\"kind\\": \\"ExecCredential\\",
              \\"status\\": {{\\"token\\": \\"token-$((n))\\"{extra}}}}}"
            """
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return ExecPlugin(command=str(path))

    return make


def runs(tmp_path: Path) -> int:
    """How often the plugin has run."""
    path = tmp_path / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


async def authorization(credentials: Credentials) -> str | None:
    """The header of the moment."""
    return dict((await credentials.get()).headers).get("authorization")


async def test_nobody_in_particular() -> None:
    assert (await Credentials(Connection(server=SERVER)).get()).headers == ()


async def test_a_token_goes_into_the_header_and_nowhere_else() -> None:
    connection = Connection(server=SERVER, token="s3cr3t", password="pa55", key_data=b"k3y")
    credential = await Credentials(connection).get()
    assert credential.headers == (("authorization", "Bearer s3cr3t"),)
    for secret in ("s3cr3t", "pa55", "k3y"):
        assert secret not in repr(connection)
        assert secret not in repr(credential)


@pytest.mark.parametrize(
    "fields",
    [
        {"token": "s3cr3t\r\nX-Injected: yes"},
        {"token": "s3\x00cr3t"},
        {"impersonate": (("impersonate-user", "s3cr3t\nroot"),)},
    ],
)
async def test_what_would_break_out_of_its_header_is_refused_and_not_quoted(fields: dict[str, Any]) -> None:
    with pytest.raises(CredentialError, match="cannot be sent") as caught:
        await Credentials(Connection(server=SERVER, **fields)).get()
    assert "s3" not in caught.value.message


async def test_a_line_break_after_a_token_is_no_part_of_it() -> None:
    assert await authorization(Credentials(Connection(server=SERVER, token="t\n"))) == "Bearer t"


async def test_a_name_and_password_are_sent_as_basic() -> None:
    credentials = Credentials(Connection(server=SERVER, username="u", password="p:w"))
    assert await authorization(credentials) == "Basic dTpwOnc="


async def test_impersonation_comes_beside_the_credentials() -> None:
    connection = Connection(
        server=SERVER, token="t", impersonate=(("impersonate-user", "a"), ("impersonate-group", "g"))
    )
    assert (await Credentials(connection).get()).headers == (
        ("impersonate-user", "a"),
        ("impersonate-group", "g"),
        ("authorization", "Bearer t"),
    )


async def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    credentials = Credentials(Connection(server=SERVER, token="stale", token_file=file))
    assert await authorization(credentials) == "Bearer first"
    file.write_text("second-one\n")
    assert await authorization(credentials) == "Bearer second-one"
    file.unlink()
    assert await authorization(credentials) == "Bearer second-one"


async def test_a_token_file_that_was_never_there_is_an_error_unless_there_is_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(CredentialError, match="token"):
        await Credentials(Connection(server=SERVER, token_file=file)).get()
    assert (
        await authorization(Credentials(Connection(server=SERVER, token="t", token_file=file))) == "Bearer t"
    )


async def test_a_plugin_runs_once_for_many_callers_and_then_not_until_it_expires(
    counting_plugin: Callable[..., ExecPlugin], tmp_path: Path
) -> None:
    clock = Clock()
    plugin = counting_plugin(expires="2001-09-09T02:00:00Z")
    credentials = Credentials(Connection(server=SERVER, exec_plugin=plugin), clock=clock)
    assert set(await asyncio.gather(*(authorization(credentials) for _ in range(20)))) == {"Bearer token-1"}
    assert await authorization(credentials) == "Bearer token-1"
    clock.now += 900.0
    assert await authorization(credentials) == "Bearer token-2"
    assert runs(tmp_path) == 2


async def test_static_credentials_win_over_a_plugin(
    counting_plugin: Callable[..., ExecPlugin], tmp_path: Path
) -> None:
    connection = Connection(server=SERVER, token="t", exec_plugin=counting_plugin())
    assert await authorization(Credentials(connection)) == "Bearer t"
    assert runs(tmp_path) == 0


async def test_a_caller_that_gives_up_does_not_end_the_run_for_the_others(
    counting_plugin: Callable[..., ExecPlugin], tmp_path: Path
) -> None:
    plugin = counting_plugin(before=f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
    credentials = Credentials(Connection(server=SERVER, exec_plugin=plugin))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await credentials.get()
    (tmp_path / "go").touch()
    assert await authorization(credentials) == "Bearer token-1"
    assert runs(tmp_path) == 1


async def test_closing_ends_a_running_plugin(
    counting_plugin: Callable[..., ExecPlugin], tmp_path: Path
) -> None:
    plugin = counting_plugin(before=f"echo $$ > {tmp_path}/pid; exec sleep 300")
    credentials = Credentials(Connection(server=SERVER, exec_plugin=plugin), timeout=60)
    call = asyncio.create_task(credentials.get())
    async with asyncio.timeout(10):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await credentials.aclose()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not Path("/proc", (tmp_path / "pid").read_text().strip(), "exe").exists()


class Gate:
    """An API server that lets only one token in."""

    def __init__(self, token: str) -> None:
        self.token = token

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.request.headers.get("authorization") == f"Bearer {self.token}":
            await exchange.reply(200, {"welcome": True})
        else:
            status = {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}
            await exchange.reply(401, status)


async def test_a_refused_token_of_a_plugin_is_renewed_once(
    client_for: Make, counting_plugin: Callable[..., ExecPlugin], tmp_path: Path
) -> None:
    async with http_server(Gate("token-2")) as server:
        client = client_for(server.url, exec_plugin=counting_plugin())
        assert await client.version() == {"welcome": True}
        assert runs(tmp_path) == 2
        server.requests.clear()
        assert await client.create(PODS, {"metadata": {"name": "p"}}, "a") == {"welcome": True}
        assert len(server.requests) == 1


async def test_a_plugin_whose_tokens_are_always_refused_is_not_asked_for_ever(
    client_for: Make, counting_plugin: Callable[..., ExecPlugin], tmp_path: Path
) -> None:
    async with http_server(Gate("none")) as server:
        client = client_for(server.url, exec_plugin=counting_plugin())
        with pytest.raises(Unauthorized):
            await client.version()
        with pytest.raises(Unauthorized):
            async for _ in client.logs("p", "a"):
                pass
        with pytest.raises(Unauthorized):
            async with client.exec("p", "a", ["x"]):
                pass
    assert runs(tmp_path) <= 6


async def test_a_static_token_that_is_refused_is_sent_once(client_for: Make) -> None:
    async with http_server(Gate("none")) as server:
        with pytest.raises(Unauthorized):
            await client_for(server.url, token="wrong").version()
    assert len(server.requests) == 1


async def test_a_plugin_that_hangs_is_inside_the_deadline_of_the_call(
    client_for: Make, counting_plugin: Callable[..., ExecPlugin]
) -> None:
    deadlines = Deadlines(probe=0.5, credential=1.0)
    client = client_for("http://127.0.0.1:1", deadlines, exec_plugin=counting_plugin(before="sleep 300"))
    with pytest.raises(CredentialError, match=r"did not answer within 0\.5 s"):
        await client.version()


async def test_a_token_on_a_file_system_that_hangs_stalls_nobody_else(tmp_path: Path) -> None:
    """A FIFO that nobody writes to hangs as such a file does."""
    hung = tmp_path / "token"
    os.mkfifo(hung)
    slow = Credentials(Connection(server=SERVER, token_file=hung))
    waiting = asyncio.create_task(slow.get())
    quick = Credentials(Connection(server=SERVER, token="t"))
    assert (await quick.get()).headers == (("authorization", "Bearer t"),)
    assert not waiting.done()
    with pytest.raises(CredentialError, match=r"token.*longer than 2 s"):
        await waiting
    hung.write_text("")  # the thread that reads it ends
