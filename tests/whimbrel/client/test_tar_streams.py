"""`whim cp` moves files unchanged, and an archive from a hostile node cannot write outside of its target."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.client.tarstream import check_source, tar_of, tar_stream, unpack
from whimbrel.model.errors import InvalidTask, NotFound, WhimError


def _archive(*members: tuple[str, bytes | str, bytes]) -> Iterator[bytes]:
    """(name, type or link target, content) packed by the standard library."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if isinstance(kind, bytes):
                info.type = kind
            else:
                info.type, info.linkname = tarfile.SYMTYPE, kind
            archive.addfile(info, io.BytesIO(content))
    yield buffer.getvalue()


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.binary(max_size=2000), max_size=6))
def test_what_is_packed_is_what_tarfile_reads(contents: dict[str, bytes]) -> None:
    """Any names and bytes."""
    packed = io.BytesIO(b"".join(tar_of(contents.items())))
    with tarfile.open(fileobj=packed) as archive:
        found = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert found == contents


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    """Names, bytes, modes, empty directories and links that stay inside."""
    source = tmp_path / "source"
    (source / "deep" / "empty").mkdir(parents=True)
    (source / "run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "deep" / "blob").write_bytes(bytes(range(256)) * 1000)
    (source / "link").symlink_to("deep/blob")
    result = unpack(tar_stream(source, []), "source", tmp_path / "copy")
    copy = tmp_path / "copy"
    assert result == {"files": 2, "bytes": 256010, "left_out": []}
    assert (copy / "deep" / "blob").read_bytes() == (source / "deep" / "blob").read_bytes()
    assert (copy / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (copy / "deep" / "empty").is_dir()
    assert (copy / "link").readlink() == Path("deep/blob")


def test_a_directory_that_is_there_gets_the_copy_inside(tmp_path: Path) -> None:
    """As `cp -r` does."""
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "into").mkdir()
    unpack(tar_stream(tmp_path / "a.txt", []), "a.txt", tmp_path / "into")
    unpack(tar_stream(tmp_path / "a.txt", []), "a.txt", tmp_path / "renamed")
    assert (tmp_path / "into" / "a.txt").read_text() == (tmp_path / "renamed").read_text() == "a"


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "top/../../evil"])
def test_names_that_leave_the_target_are_refused(tmp_path: Path, name: str) -> None:
    """Nothing is written outside, whatever the archive says."""
    target = tmp_path / "target"
    with pytest.raises(WhimError, match="outside"):
        unpack(_archive((name, tarfile.REGTYPE, b"x")), "top", target)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["target"])


def test_a_link_out_of_the_target_is_not_made_and_not_followed(tmp_path: Path) -> None:
    """A link to the outside is left out, so that a later member cannot go through it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    members = [
        ("top", tarfile.DIRTYPE, b""),
        ("top/door", str(outside), b""),
        ("top/door/evil", tarfile.REGTYPE, b"x"),
    ]
    result = unpack(_archive(*members), "top", tmp_path / "target")
    assert result["left_out"] == [f"top/door -> {outside}"]
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "target" / "door").is_symlink()


def test_what_is_no_file_is_left_out_and_named_both_ways(tmp_path: Path) -> None:
    """A pipe has no end, a device no content."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    os.mkfifo(source / "pipe")
    left_out: list[str] = []
    result = unpack(tar_stream(source, left_out), "source", tmp_path / "copy")
    assert (result["files"], left_out) == (1, [str(source / "pipe")])
    archive = _archive(("top", tarfile.DIRTYPE, b""), ("top/pipe", tarfile.FIFOTYPE, b""))
    assert unpack(archive, "top", tmp_path / "again")["left_out"] == ["top/pipe"]
    with pytest.raises(InvalidTask, match="/dev/zero is a character device"):
        check_source(Path("/dev/zero"))


def test_an_archive_that_ends_early_is_an_error(tmp_path: Path) -> None:
    """And not a short copy that looks complete."""
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    cut = b"".join(tar_stream(tmp_path / "a", []))[:50_000]
    with pytest.raises(WhimError, match="ended early"):
        unpack(iter([cut]), "a", tmp_path / "b")


def test_an_empty_answer_means_that_there_is_nothing(tmp_path: Path) -> None:
    """The path did not exist at the node."""
    with pytest.raises(NotFound, match="nothing at 'x'"):
        unpack(iter([]), "x", tmp_path / "b")
