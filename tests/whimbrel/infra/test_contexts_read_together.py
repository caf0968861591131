"""Hundreds who ask where contexts lead at one moment cost one look at the files."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from whimbrel.infra.kubernetes import contexts
from whimbrel.infra.kubernetes.contexts import Contexts

from .conftest import KUBECONFIG

pytestmark = pytest.mark.anyio


async def test_who_asks_while_the_files_are_read_gets_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    go, began, looks = threading.Event(), threading.Event(), []
    stamp_of = contexts._stamp_of

    def slow(of: Path) -> tuple[int, int, int] | None:
        looks.append(of)
        began.set()
        go.wait(10)
        return stamp_of(of)

    monkeypatch.setattr(contexts, "_stamp_of", slow)
    found = Contexts([path])
    asked = [asyncio.create_task(found.names()) for _ in range(300)]
    await asyncio.to_thread(began.wait, 10)
    go.set()
    assert await asyncio.gather(*asked) == [["fake"]] * 300
    assert looks == [path]
    path.write_text(KUBECONFIG.replace("fake", "other"))
    assert await found.names() == ["other"], "a look that is over serves nobody who asks later"
