"""Files by content: only what is complete and true to its name is stored, and what is spoiled is sent again."""

import asyncio
import hashlib
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from whimbrel.model.errors import InvalidTask
from whimbrel.operations.blobs import BlobStore

pytestmark = pytest.mark.anyio


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


async def pieces(data: bytes, size: int = 700) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BlobStore]:
    store = BlobStore(tmp_path / "blobs")
    yield store
    store.close()


async def test_files_of_an_upload_are_no_longer_missing(store: BlobStore) -> None:
    one, two = b"one" * 1000, b""
    assert await store.missing([digest(one), digest(two)]) == [digest(one), digest(two)]
    assert await store.store_tar(pieces(tar({digest(one): one, digest(two): two}))) == 2
    assert await store.missing([digest(one), digest(two), digest(b"three")]) == [digest(b"three")]
    assert await store.read(digest(one)) == one


async def test_a_file_that_is_not_what_its_name_says_is_refused_and_not_kept(
    store: BlobStore, tmp_path: Path
) -> None:
    with pytest.raises(InvalidTask, match="changed while it was sent"):
        await store.store_tar(pieces(tar({digest(b"one"): b"two"})))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_names_that_are_no_digest_are_refused(store: BlobStore) -> None:
    for name in ("../../etc/passwd", "a", "A" * 64):
        with pytest.raises(InvalidTask, match="SHA-256"):
            await store.store_tar(pieces(tar({name: b"x"})))
        with pytest.raises(InvalidTask, match="SHA-256"):
            await store.read(name)


async def test_an_upload_that_is_cut_off_keeps_what_was_complete(store: BlobStore) -> None:
    first, second = b"first", b"second" * 2000
    stream = tar({digest(first): first, digest(second): second})
    with pytest.raises(InvalidTask):
        await store.store_tar(pieces(stream[:3000]))
    assert await store.missing([digest(first), digest(second)]) == [digest(second)]


async def test_a_file_that_is_not_here_is_named_with_what_to_do(store: BlobStore) -> None:
    with pytest.raises(InvalidTask) as caught:
        await store.read(digest(b"nothing"))
    assert caught.value.remedy is not None
    assert "again" in caught.value.remedy


async def test_a_sparse_member_that_would_fill_the_disk_is_refused(store: BlobStore, tmp_path: Path) -> None:
    info = tarfile.TarInfo(digest(b"bomb"))
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(1 << 62),
        "GNU.sparse.map": "0,1",
    }
    info.size = 1
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(InvalidTask, match="SHA-256"):
        await asyncio.wait_for(store.store_tar(pieces(buffer.getvalue())), 10)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_uploads_that_dawdle_do_not_hold_up_who_only_asks(store: BlobStore) -> None:
    go = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        await go.wait()
        yield tar({digest(b"slow"): b"slow"})

    uploads = [asyncio.create_task(store.store_tar(slow())) for _ in range(4)]
    assert await asyncio.wait_for(store.missing([digest(b"slow")]), 10) == [digest(b"slow")]
    go.set()
    assert await asyncio.gather(*uploads) == [1, 1, 1, 1]


async def test_a_spoiled_manifest_is_dropped_so_that_the_same_command_sends_it_again(
    store: BlobStore,
) -> None:
    good = digest(b"manifest")
    await store.store_tar(pieces(tar({good: b"manifest"})))
    store.path(good).write_bytes(b"\0" * 8)
    with pytest.raises(InvalidTask, match="spoiled") as caught:
        await store.read(good)
    assert "again" in str(caught.value.remedy)
    assert await store.missing([good]) == [good]


async def test_what_cannot_be_swept_away_does_not_end_the_sweep(store: BlobStore) -> None:
    old, kept = digest(b"old"), digest(b"kept")
    await store.store_tar(pieces(tar({old: b"old", kept: b"kept"})))
    os.utime(store.path(old), (0, 0))
    store.path(old).with_name(".vanishing").symlink_to("gone meanwhile")
    store.path(kept).with_name("directory").mkdir()
    os.utime(store.path(kept).with_name("directory"), (0, 0))
    assert await store.sweep() >= 1
    assert await store.missing([old, kept]) == [old]
