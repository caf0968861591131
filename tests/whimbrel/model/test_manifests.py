"""Manifests: the same tree has the same digest, and a difference turns the old tree into the new one."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.model.errors import InvalidTask
from whimbrel.model.manifest import Entry, Kind, Manifest, diff


def file(path: str, content: str = "", mode: int = 0o644) -> Entry:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Entry(path=path, kind=Kind.FILE, mode=mode, size=len(content), sha256=digest)


def directory(path: str) -> Entry:
    return Entry(path=path, kind=Kind.DIR, mode=0o755)


def link(path: str, target: str) -> Entry:
    return Entry(path=path, kind=Kind.LINK, mode=0o777, target=target)


TREE = [directory("a"), file("a/x", "1"), link("a/l", "x"), file("top", "22", 0o755)]


def test_the_digest_does_not_depend_on_the_order_of_the_walk() -> None:
    assert Manifest.of(TREE).digest == Manifest.of(reversed(TREE)).digest
    assert Manifest.of(TREE).digest != Manifest.of(TREE[:-1]).digest
    assert (Manifest.of(TREE).size, len(Manifest.of(TREE).blobs)) == (3, 2)


def test_a_manifest_comes_back_from_its_json_with_the_same_digest() -> None:
    manifest = Manifest.of(TREE)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json()).digest == manifest.digest
    with pytest.raises(InvalidTask, match="not JSON"):
        Manifest.from_json(b"{")


def test_a_difference_names_what_changed_and_what_vanished() -> None:
    old = Manifest.of(
        [directory("d"), file("d/same", "s"), file("d/old", "o"), file("turn", "x"), file("mode", "m")]
    )
    new = Manifest.of(
        [directory("d"), file("d/same", "s"), file("d/new", "n"), directory("turn"), file("mode", "m", 0o755)]
    )
    change = diff(old, new)
    assert [entry.path for entry in change.to_send] == ["d/new", "mode", "turn"]
    assert change.to_delete == ("d/old", "turn")
    assert change.bytes == 2
    assert diff(new, new) == diff(Manifest(), Manifest())


def test_what_vanished_is_deleted_from_the_leaves_to_the_root() -> None:
    old = Manifest.of([directory("a"), directory("a/b"), file("a/b/c", "x")])
    assert diff(old, Manifest()).to_delete == ("a/b/c", "a/b", "a")


def test_one_path_twice_is_refused() -> None:
    with pytest.raises(InvalidTask, match="twice"):
        Manifest.of([file("a"), file("a")])


_trees = st.dictionaries(
    st.sampled_from(["a", "b", "c/x", "c/y", "d/e/f"]), st.sampled_from(["1", "2", "link", "dir"]), max_size=5
)


def _manifest(tree: dict[str, str]) -> Manifest:
    return Manifest.of(
        link(path, "t") if what == "link" else directory(path) if what == "dir" else file(path, what)
        for path, what in tree.items()
    )


@settings(derandomize=True, max_examples=200, deadline=None)
@given(old=_trees, new=_trees)
def test_applying_a_difference_to_the_old_tree_gives_the_new_one(
    old: dict[str, str], new: dict[str, str]
) -> None:
    before, after = _manifest(old), _manifest(new)
    change = diff(before, after)
    tree = {entry.path: entry for entry in before.entries}
    for path in change.to_delete:
        del tree[path]
    tree |= {entry.path: entry for entry in change.to_send}
    assert Manifest.of(tree.values()) == after
