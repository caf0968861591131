"""Secrets of requests that have not ended."""

from pathlib import Path

import pytest

from whimbrel.jobs.vault import Vault

pytestmark = pytest.mark.anyio


async def test_a_secret_is_readable_by_its_user_only_and_gone_after_wipe(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "secrets")
    await vault.put("request-1", {"TOKEN": "s3cret"})
    assert await vault.get("request-1") == {"TOKEN": "s3cret"}
    assert (tmp_path / "secrets" / "request-1").stat().st_mode & 0o777 == 0o600
    assert vault.keys() == ["request-1"]
    await vault.wipe("request-1")
    await vault.wipe("request-1")
    assert await vault.get("request-1") == {}
    assert list((tmp_path / "secrets").iterdir()) == []


async def test_the_same_request_sent_twice_keeps_the_first_values(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    await vault.put("request-1", {"TOKEN": "first"})
    await vault.put("request-1", {"TOKEN": "second"})
    assert await vault.get("request-1") == {"TOKEN": "first"}


async def test_nothing_is_written_for_no_secrets_and_no_path_can_be_named(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    await vault.put("request-1", {})
    assert vault.keys() == []
    for key in ("../state.db", "", "a/b", ".hidden"):
        with pytest.raises(ValueError, match="request id"):
            await vault.get(key)
