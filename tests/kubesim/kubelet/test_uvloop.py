"""The daemon's event loop is uvloop: descriptors of pipes, terminals and packet sockets have to work on it as well."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvloop

from kubesim.apiserver.nodes import LogOptions
from kubesim.kubelet import shims
from kubesim.kubelet.logread import read_log

from .conftest import Box


def test_containers_work_on_uvloop(root: Path) -> None:
    async def scenario() -> None:
        box = Box(root)
        try:
            directory = await box.start("main", "sh", "-c", "echo on; read line; echo $line", stdin=True)
            data = bytes(range(256)) * 4000
            assert await box.run(directory, "cat", data=data) == (0, data, b"")
            assert (await box.run(directory, "sh", "-c", "test -t 1 && exit 3", tty=True))[0] == 3
            with pytest.raises(shims.ShimError):
                await box.execute(directory, "nonesuch")
            attached = await shims.attach(directory, stdin=True, stdout=False, stderr=False, tty=False)
            await attached.write_stdin(b"bye\n")
            pieces = [piece async for piece in read_log(directory, LogOptions(follow=True), 0)]
            assert b"".join(pieces) == b"on\nbye\n"
            await attached.aclose()
            assert (await shims.watch(directory)).exit_code == 0
        finally:
            box.close()

    uvloop.run(scenario())
