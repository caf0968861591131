"""Files by content: only what is complete and true to its name is stored."""

import hashlib
import io
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
