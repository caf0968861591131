"""A directory on a node becomes what a manifest says, and only what changed is sent."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from whimbrel.model.errors import InfraRefused, InvalidTask, NodeLost
from whimbrel.model.manifest import Entry, Kind, Manifest
from whimbrel.runtime.sync import Pushed, push

from .local_node import LocalNode, make_path

pytestmark = pytest.mark.anyio

TARGET = "~/whimbrel_workdir"


class Blobs:
    """A blob store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def path(self, sha256: str) -> Path:
        """An `OpenBlob`."""
        return self.folder / sha256

    def manifest(self, files: Mapping[str, bytes | str], dirs: tuple[str, ...] = ()) -> Manifest:
        """A manifest of contents (bytes) and links (str); their directories come by themselves."""
        entries = {}
        for path, content in files.items():
            for parent in Path(path).parents:
                if str(parent) != ".":
                    entries[str(parent)] = Entry(path=str(parent), kind=Kind.DIR, mode=0o755)
            if isinstance(content, str):
                entries[path] = Entry(path=path, kind=Kind.LINK, mode=0o777, target=content)
                continue
            digest = hashlib.sha256(content).hexdigest()
            (self.folder / digest).write_bytes(content)
            mode = 0o755 if path.endswith(".sh") else 0o644
            entries[path] = Entry(path=path, kind=Kind.FILE, mode=mode, size=len(content), sha256=digest)
        for path in dirs:
            entries[path] = Entry(path=path, kind=Kind.DIR, mode=0o755)
        return Manifest.of(entries.values())


@pytest.fixture
def blobs(scratch: Path) -> Blobs:
    """An empty store."""
    return Blobs(scratch / "blobs")


def work(node: LocalNode) -> Path:
    """The target on this machine."""
    return node.home / "whimbrel_workdir"


async def put(node: LocalNode, blobs: Blobs, manifest: Manifest) -> Pushed:
    """A push to the working directory."""
    return await push(node, TARGET, manifest, blobs.path, lambda text: None)


TREE: dict[str, bytes | str] = {
    "main.py": b"print('hi')\n",
    "run.sh": b"#!/bin/sh\n",
    "empty": b"",
    "data/deep/er/blob": bytes(range(256)) * 1000,
    "a name with 'quotes' and  spaces": b"x",
    "-rf": b"not an option",
    "ünï/çödé": b"utf8",
    "link": "data/deep",
    "long/" + "n" * 120 + "/" + "m" * 100: b"long name",
}


async def test_everything_arrives_with_content_mode_and_links(node: LocalNode, blobs: Blobs) -> None:
    pushed = await put(node, blobs, blobs.manifest(TREE, dirs=("empty-dir",)))
    assert pushed.files == sum(isinstance(content, bytes) for content in TREE.values())
    for path, content in TREE.items():
        there = work(node) / path
        if isinstance(content, str):
            assert os.readlink(there) == content
        else:
            assert there.read_bytes() == content
    assert os.access(work(node) / "run.sh", os.X_OK)
    assert not os.access(work(node) / "main.py", os.X_OK)
    assert (work(node) / "empty-dir").is_dir()
    assert not list(work(node).glob(".whimbrel-*"))


async def test_a_second_push_of_the_same_sends_nothing(node: LocalNode, blobs: Blobs) -> None:
    manifest = blobs.manifest(TREE)
    await put(node, blobs, manifest)
    before = node.execs
    assert await put(node, blobs, manifest) == Pushed()
    assert node.execs == before + 1


async def test_only_what_changed_is_sent(node: LocalNode, blobs: Blobs) -> None:
    await put(node, blobs, blobs.manifest({"a": b"1", "b": b"2"}))
    pushed = await put(node, blobs, blobs.manifest({"a": b"1", "b": b"33", "c": b"4"}))
    assert (pushed.files, pushed.bytes, pushed.deleted) == (2, 3, 0)
    assert (work(node) / "b").read_bytes() == b"33"


async def test_what_we_had_put_there_is_deleted_and_nothing_else(node: LocalNode, blobs: Blobs) -> None:
    await put(node, blobs, blobs.manifest({"old/x": b"1", "old/y": b"2", "gone/z": b"3"}))
    (work(node) / "old/mine").write_text("written by a job")
    pushed = await put(node, blobs, blobs.manifest({"new": b"4"}))
    assert pushed.deleted == 5
    assert sorted(path.name for path in work(node).rglob("*")) == ["mine", "new", "old"]


async def test_what_a_job_changed_becomes_the_users_again_and_is_not_deleted(
    node: LocalNode, blobs: Blobs
) -> None:
    await put(node, blobs, blobs.manifest({"a": b"1", "b": b"2"}))
    later = time.time() + 5
    for name in ("a", "b"):
        (work(node) / name).write_text("changed by a job")
        os.utime(work(node) / name, (later, later))
    pushed = await put(node, blobs, blobs.manifest({"a": b"1"}))
    assert (pushed.files, pushed.deleted) == (1, 0)
    assert (work(node) / "a").read_bytes() == b"1"
    assert (work(node) / "b").read_text() == "changed by a job"


async def test_what_has_vanished_on_the_node_is_sent_again(node: LocalNode, blobs: Blobs) -> None:
    manifest = blobs.manifest({"a": b"1", "d/b": b"2"})
    await put(node, blobs, manifest)
    (work(node) / "d/b").unlink()
    assert (await put(node, blobs, manifest)).files == 1
    for path in sorted(work(node).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    work(node).rmdir()
    assert (await put(node, blobs, manifest)).files == 2
    assert (work(node) / "d/b").read_bytes() == b"2"


async def test_a_file_becomes_a_directory_and_the_other_way_round(node: LocalNode, blobs: Blobs) -> None:
    await put(node, blobs, blobs.manifest({"x": b"file", "y/inner": b"1", "z": "x"}))
    await put(node, blobs, blobs.manifest({"x/inner": b"2", "y": b"file", "z": b"no link"}))
    assert (work(node) / "x/inner").read_bytes() == b"2"
    assert (work(node) / "y").read_bytes() == b"file"
    assert (work(node) / "z").read_bytes() == b"no link"
    assert not (work(node) / "z").is_symlink()


async def test_a_push_that_broke_off_is_mended_by_the_next(node: LocalNode, blobs: Blobs) -> None:
    await put(node, blobs, blobs.manifest({"a": b"1", "b": b"2"}))
    manifest = blobs.manifest({"a": b"9" * 400_000, "b": b"2", "c": b"3" * 400_000})
    node.break_after = [None, 0]
    with pytest.raises(NodeLost):
        await put(node, blobs, manifest)
    await put(node, blobs, manifest)
    assert (work(node) / "a").read_bytes() == b"9" * 400_000
    assert (work(node) / "c").read_bytes() == b"3" * 400_000
    assert not list(work(node).glob(".whimbrel-*"))


async def test_two_targets_have_two_memories(node: LocalNode, blobs: Blobs) -> None:
    await push(node, "~/one", blobs.manifest({"a": b"1"}), blobs.path, lambda text: None)
    await push(
        node, "/".join((str(node.home), "two")), blobs.manifest({"b": b"2"}), blobs.path, lambda text: None
    )
    assert (node.home / "one/a").read_bytes() == b"1"
    assert (node.home / "two/b").read_bytes() == b"2"


async def test_content_that_is_missing_here_is_named_and_nothing_is_remembered(
    node: LocalNode, blobs: Blobs
) -> None:
    manifest = blobs.manifest({"a": b"1234"})
    next(blobs.folder.iterdir()).write_bytes(b"12")
    with pytest.raises(InfraRefused, match="copy of a is gone or spoiled"):
        await put(node, blobs, manifest)
    blobs.manifest({"a": b"1234"})
    assert (await put(node, blobs, manifest)).files == 1


async def test_a_directory_that_cannot_be_written_is_named(node: LocalNode, blobs: Blobs) -> None:
    (node.home / "file").write_text("")
    with pytest.raises(InfraRefused, match="could not be written to ~/file/x") as caught:
        await push(node, "~/file/x", blobs.manifest({"a": b"1"}), blobs.path, lambda text: None)
    assert caught.value.remedy


async def test_a_damaged_memory_is_none(node: LocalNode, blobs: Blobs) -> None:
    manifest = blobs.manifest({"a": b"1"})
    await put(node, blobs, manifest)
    for memory in (node.home / ".whimbrel/sync").glob("*.json"):
        memory.write_text("{")
    assert (await put(node, blobs, manifest)).files == 1


async def test_a_target_with_a_newline_is_refused(node: LocalNode, blobs: Blobs) -> None:
    with pytest.raises(InvalidTask):
        await push(node, "a\nb", blobs.manifest({}), blobs.path, lambda text: None)


@pytest.mark.parametrize("blocks", range(18, 22))
async def test_a_server_that_cannot_end_stdin_is_enough(node: LocalNode, blobs: Blobs, blocks: int) -> None:
    node.endless = True
    manifest = blobs.manifest({"a": b"x" * 512 * blocks})
    async with asyncio.timeout(10):
        assert (await put(node, blobs, manifest)).files == 1
    assert (work(node) / "a").stat().st_size == 512 * blocks


@pytest.mark.parametrize("bare_shell", ["dash", "busybox"])
async def test_a_node_without_tar_gets_the_same(scratch: Path, blobs: Blobs, bare_shell: str) -> None:
    home = scratch / "bare"
    home.mkdir()
    node = LocalNode(home, make_path(scratch / "barebin", bare_shell, without=["tar"]))
    await put(node, blobs, blobs.manifest(TREE, dirs=("empty-dir",)))
    for path, content in TREE.items():
        there = work(node) / path
        assert (
            (os.readlink(there) == content) if isinstance(content, str) else (there.read_bytes() == content)
        )
    assert os.access(work(node) / "run.sh", os.X_OK)
    assert await put(node, blobs, blobs.manifest(TREE, dirs=("empty-dir",))) == Pushed()


async def test_progress_is_told_when_it_takes_long(
    node: LocalNode, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whimbrel.runtime.sync._TELL_EVERY", 0.0)
    told: list[str] = []
    await push(node, TARGET, blobs.manifest({"a": b"x" * 1_000_000}), blobs.path, told.append)
    assert any("of 1.0 MB" in text for text in told)
