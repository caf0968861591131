"""What importing costs, what errors look like, and that a client can be opened from a kubeconfig in one line."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kubewire
from kubewire import errors
from kubewire.errors import ApiError, KubeError, StreamBroken, Unreachable, api_error, transient
from kubewire.kubeconfig_file import add_context
from kubewire.opening import open_client
from kubewire.testing import Exchange, broken, http_server

HEAVY = ("httpcore2", "httpx2", "websockets", "cryptography", "yaml", "anyio")


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("kubewire", set()),
        ("kubewire.client", set()),
        ("kubewire.watch", set()),
        ("kubewire.kubeconfig", {"yaml"}),
        ("kubewire.http", {"httpcore2", "anyio"}),
        ("kubewire.opening", {"httpcore2", "anyio", "yaml"}),
    ],
)
def test_nobody_pays_for_what_is_not_used(module: str, allowed: set[str]) -> None:
    code = f"import sys, json; import {module}; print(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout
    assert set(json.loads(printed)) <= allowed


def test_neither_product_is_imported() -> None:
    for path in Path(kubewire.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert "import whimbrel" not in text, path
        assert "from whimbrel" not in text, path
        assert "kubesim import" not in text, path


def classes(root: type[KubeError]) -> Iterator[type[KubeError]]:
    """A class and all below it."""
    yield root
    for child in root.__subclasses__():
        yield from classes(child)


def test_every_error_is_in_the_tree_and_has_a_sentence() -> None:
    for kind in classes(KubeError):
        if kind.__module__ == errors.__name__:
            assert (kind.__doc__ or "").endswith("."), kind
            assert kind.__name__ in (errors.__doc__ or ""), kind


def test_every_reason_has_words_and_a_remedy() -> None:
    for reason in errors._REASONS:
        error = Unreachable("https://a:1", reason, 1.26, "because")
        assert error.message.startswith("https://a:1 ")
        assert "1.3 s: because" in error.message
        assert error.remedy


def test_what_may_mend_itself_is_told_from_what_will_not() -> None:
    assert transient(Unreachable("e", "timeout"))
    assert transient(StreamBroken())
    assert all(transient(api_error(code)) for code in (408, 410, 429, 500, 503, 504))
    assert not any(transient(api_error(code)) for code in (400, 401, 403, 404, 405, 409, 422))
    assert not transient(errors.ContextNotFound("a", []))


def test_an_error_without_words_still_says_what_it_is() -> None:
    assert str(StreamBroken()) == "The stream ended before its own end."
    assert str(ApiError(418, "Teapot")) == "the API server answered 418 Teapot"


@pytest.mark.anyio
async def test_a_client_is_opened_from_a_kubeconfig(tmp_path: Path) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reply(200, {"gitVersion": exchange.request.headers["authorization"]})

    path = tmp_path / "config"
    async with http_server(handler) as server:
        add_context(path, "test", cluster={"server": server.url}, user={"token": "t"})
        async with open_client("test", paths=[path]) as client:
            assert await client.version() == {"gitVersion": "Bearer t"}
        async with open_client(paths=[path]) as client:
            assert (await client.version())["gitVersion"] == "Bearer t"
    with pytest.raises(errors.ContextNotFound, match="contexts there: test"):
        open_client("other", paths=[path])


def test_an_unknown_defect_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="silent"):
        broken("sleepy")
