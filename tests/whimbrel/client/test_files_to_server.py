"""What of a working directory is sent: every file that no ignore rule names, each content once, only when missing."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from whimbrel.client import files
from whimbrel.client.ignore import IgnoreRules
from whimbrel.model.errors import InvalidTask
from whimbrel.model.manifest import Kind, Manifest


class FakeServer:
    """The two calls of an upload, with the contents that it has."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.uploads = 0

    def __call__(self, method: str, path: str, body: Any = None, **_: Any) -> dict[str, Any]:
        if path.endswith("/missing"):
            return {"missing": [digest for digest in body["sha256"] if digest not in self.blobs]}
        self.uploads += 1
        with tarfile.open(fileobj=io.BytesIO(b"".join(body()))) as archive:
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                self.blobs[member.name] = content.read()
        return {"stored": 1}

    def tree(self, digest: str) -> dict[str, Any]:
        """Path -> content (or None for what is no file) of a manifest that was sent."""
        manifest = Manifest.from_json(self.blobs[digest])
        return {e.path: self.blobs[e.sha256] if e.kind is Kind.FILE else None for e in manifest.entries}


def _quiet(_: str) -> None:
    return


def _make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def _sent(root: Path) -> set[str]:
    manifest = files.scan(root, {}, IgnoreRules.at_root(root))
    return {entry.path for entry in manifest.entries if entry.kind is not Kind.DIR}


def test_gitignore_rules_are_those_of_git(tmp_path: Path) -> None:
    """Patterns, directories, negation, and files deeper down that decide for their own directory."""
    _make(
        tmp_path,
        "a.py",
        "a.log",
        "build/x",
        "src/b.py",
        "src/c.log",
        "src/keep.log",
        "src/build/y",
        ".git/HEAD",
    )
    (tmp_path / ".gitignore").write_text("*.log\n/build/\n")
    (tmp_path / "src" / ".gitignore").write_text("!keep.log\n")
    assert _sent(tmp_path) == {
        ".gitignore",
        ".git/HEAD",
        "a.py",
        "src/.gitignore",
        "src/b.py",
        "src/keep.log",
        "src/build/y",
    }


def test_skyignore_replaces_gitignore(tmp_path: Path) -> None:
    """As SkyPilot does: the file at the root is the whole truth."""
    _make(tmp_path, "a.log", "data/big.bin", "b.py")
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / ".skyignore").write_text("data/\n")
    assert _sent(tmp_path) == {".gitignore", ".skyignore", "a.log", "b.py"}


def test_links_are_kept_and_pipes_are_left_out(tmp_path: Path) -> None:
    """A link is sent as a link, also when it leads nowhere."""
    _make(tmp_path, "a")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    entries = {entry.path: entry for entry in files.scan(tmp_path, {}).entries}
    assert set(entries) == {"a", "link", "broken"}
    assert (entries["link"].kind, entries["link"].target) == (Kind.LINK, "a")


def test_only_what_the_server_lacks_is_sent(tmp_path: Path) -> None:
    """The second upload of the same tree sends nothing; a changed file sends itself and the new manifest."""
    _make(tmp_path, "one", "two")
    server = FakeServer()
    first = files.upload(str(tmp_path), {}, server, _quiet)
    assert server.tree(first["workdir"]) == {"one": b"one", "two": b"two"}
    assert files.upload(str(tmp_path), {}, server, _quiet) == first
    assert server.uploads == 1
    (tmp_path / "two").write_text("new")
    known = set(server.blobs)
    second = files.upload(str(tmp_path), {}, server, _quiet)
    assert server.tree(second["workdir"])["two"] == b"new"
    assert len(set(server.blobs) - known) == 2


def test_mounts_of_files_share_the_directory_that_they_go_to(tmp_path: Path) -> None:
    """A directory is a tree of its own; single files become entries of their directory on the node."""
    _make(tmp_path, "conf/a.toml", "x.txt", "y.txt")
    mounts = {
        "/etc/app": f"{tmp_path}/conf",
        "~/in/first": f"{tmp_path}/x.txt",
        "~/in/second": f"{tmp_path}/y.txt",
    }
    server = FakeServer()
    sent = files.upload(None, mounts, server, _quiet)
    assert sent["workdir"] is None
    assert {target: server.tree(digest) for target, digest in sent["mounts"].items()} == {
        "/etc/app": {"a.toml": b"conf/a.toml"},
        "~/in": {"first": b"x.txt", "second": b"y.txt"},
    }


def test_large_uploads_go_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No upload holds more than a batch, unless one file is larger."""
    monkeypatch.setattr(files, "BATCH", 10)
    for name in "abc":
        (tmp_path / name).write_text(name * 8)
    server = FakeServer()
    sent = files.upload(str(tmp_path), {}, server, _quiet)
    assert set(server.tree(sent["workdir"])) == {"a", "b", "c"}
    assert server.uploads >= 3


def test_a_file_that_grows_while_it_is_sent_ends_the_upload(tmp_path: Path) -> None:
    """Half a file under a hash that is not its own would be worse than an error."""
    path = tmp_path / "growing"
    path.write_bytes(b"x" * 10)
    stream = files.tar_of([("name", path)])
    next(stream)
    with path.open("ab") as more:
        more.write(b"y" * 10)
    with pytest.raises(InvalidTask, match="changed from 10 to 20 bytes"):
        list(stream)


def test_our_own_state_is_never_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody whose workdir is the home directory keeps databases and keys."""
    monkeypatch.setenv("WHIMBREL_HOME", str(tmp_path / ".whimbrel"))
    monkeypatch.setenv("KUBESIM_HOME", str(tmp_path / "deep" / "kubesim"))
    _make(tmp_path, ".whimbrel/state.db", "deep/kubesim/ca.key", "deep/a.py", "b.py")
    assert _sent(tmp_path) == {"deep/a.py", "b.py"}
