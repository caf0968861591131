"""`cp` to a node and back, with tar and without."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from whimbrel.model.errors import InfraRefused, InvalidTask, NodeLost, NotFound
from whimbrel.runtime.copy import Copied, copy_down, copy_up

from .local_node import LocalNode, make_path

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["tar", "no tar"])
def place(request: pytest.FixtureRequest, scratch: Path, shell: str) -> LocalNode:
    """A node with the shell under test, with and without tar."""
    home = scratch / "h"
    home.mkdir()
    without = ["tar"] if request.param == "no tar" else []
    return LocalNode(home, make_path(scratch / "b", shell, without=without))


def archive(source: Path) -> bytes:
    """A tar of one file or directory under its own name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(source, source.name)
    return buffer.getvalue()


async def pieces(data: bytes, size: int = 7001) -> AsyncIterator[bytes]:
    """The same in pieces."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def down(node: LocalNode, path: str, into: Path) -> list[str]:
    """Copy to a directory here; the names that came."""
    data = b"".join([piece async for piece in copy_down(node, path)])
    into.mkdir()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(
            into, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
        )  # from 3.11.4 on
        return sorted(os.path.normpath(name) for name in tar.getnames())


@pytest.fixture
def tree(scratch: Path) -> Path:
    """A directory to copy."""
    root = scratch / "tree"
    (root / "sub dir").mkdir(parents=True)
    (root / "a.bin").write_bytes(os.urandom(200_000))
    (root / "sub dir" / "ü").write_text("x")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("a.bin")
    return root


async def test_a_directory_goes_up_and_comes_down_the_same(
    place: LocalNode, tree: Path, scratch: Path
) -> None:
    copied = await copy_up(place, "~/there", pieces(archive(tree)))
    assert copied == Copied(files=3, bytes=200_000 + 1 + 10)
    names = await down(place, "~/there", scratch / "back")
    assert names == ["there", "there/a.bin", "there/link", "there/run", "there/sub dir", "there/sub dir/ü"]
    back = scratch / "back/there"
    assert (back / "a.bin").read_bytes() == (tree / "a.bin").read_bytes()
    assert os.readlink(back / "link") == "a.bin"
    assert os.access(back / "run", os.X_OK)


async def test_a_file_takes_the_new_name(place: LocalNode, tree: Path) -> None:
    await copy_up(place, "~/made/up/name", pieces(archive(tree / "run")))
    assert (place.home / "made/up/name").read_text() == "#!/bin/sh\n"
    assert os.listdir(place.home / "made/up") == ["name"]


async def test_a_file_goes_into_a_directory_that_is_there(place: LocalNode, tree: Path) -> None:
    (place.home / "dir").mkdir()
    await copy_up(place, "~/dir", pieces(archive(tree / "run")))
    await copy_up(place, "~/other/", pieces(archive(tree / "run")))
    assert (place.home / "dir/run").exists()
    assert (place.home / "other/run").exists()


async def test_a_relative_path_is_relative_to_the_working_directory(
    place: LocalNode, tree: Path, scratch: Path
) -> None:
    await copy_up(place, ".", pieces(archive(tree / "run")))
    assert (place.home / "whimbrel_workdir/run").exists()
    assert await down(place, "run", scratch / "back") == ["run"]


async def test_an_existing_file_is_replaced(place: LocalNode, tree: Path) -> None:
    (place.home / "f").write_text("old and longer than the new one")
    await copy_up(place, str(place.home / "f"), pieces(archive(tree / "run")))
    assert (place.home / "f").read_text() == "#!/bin/sh\n"


async def test_what_is_not_there_is_said_before_anything_comes(place: LocalNode) -> None:
    with pytest.raises(NotFound, match="nothing at ~/nope"):
        await anext(copy_down(place, "~/nope"))


async def test_an_upload_that_broke_off_is_an_error_and_leaves_nothing_behind(
    place: LocalNode, tree: Path
) -> None:
    async def cut() -> AsyncIterator[bytes]:
        yield archive(tree)[:100_000]
        raise NodeLost("the client is gone")

    with pytest.raises(NodeLost, match="the client is gone"):
        await copy_up(place, "~/x", cut())


async def test_a_server_that_cannot_end_stdin_is_enough_or_is_named(
    place: LocalNode, tree: Path, shell: str
) -> None:
    place.endless = True
    has_tar = (Path(place.path.split(":")[0]) / "tar").exists() or ":" in place.path
    async with asyncio.timeout(10):
        if shell == "busybox" and has_tar:  # its tar waits for the end of the stream, not of the archive
            with pytest.raises(InfraRefused, match="cannot close stdin"):
                await copy_up(place, "~/x", pieces(archive(tree)), idle=1)
        else:
            assert (await copy_up(place, "~/x", pieces(archive(tree)))).files == 3


async def test_what_is_no_archive_is_refused(place: LocalNode) -> None:
    with pytest.raises((InfraRefused, InvalidTask)):
        await copy_up(place, "~/x", pieces(b"garbage" * 500))


async def test_a_download_that_broke_off_is_an_error(place: LocalNode, tree: Path) -> None:
    await copy_up(place, "~/x", pieces(archive(tree)))
    place.break_after = [50_000]
    with pytest.raises(NodeLost):
        async for _ in copy_down(place, "~/x"):
            pass


async def test_a_copy_to_where_nothing_can_be_written_is_named(place: LocalNode, tree: Path) -> None:
    (place.home / "file").write_text("")
    with pytest.raises(InfraRefused, match="copying to ~/file/x/y on node node-0 failed"):
        await copy_up(place, "~/file/x/y", pieces(archive(tree)))


@pytest.mark.parametrize("path", ["", "a\nb", "a\0b"])
async def test_a_path_that_cannot_be_one_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidTask):
        await copy_up(LocalNode(tmp_path, "/bin"), path, pieces(b""))
