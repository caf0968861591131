"""Changing a kubeconfig that others change too: under client-go's lock, in one step, with nothing lost.

kubectl and every tool on client-go create `<file>.lock` while they write; so do we, and wait for theirs. The new
content replaces the old one by a rename, with mode 0600; comments do not survive, entries and fields of others do. A
file that cannot be read is never overwritten. Plain, blocking functions: their callers are command lines.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from kubewire.errors import KubeconfigInvalid, KubeconfigLocked
from kubewire.kubeconfig import default_paths, read_document

_STALE = 30.0  # seconds: client-go holds the lock for as long as one write takes
_PAUSE = 0.02

# safe_dump in C where there is one
_Dumper: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def default_target(environ: Mapping[str, str] | None = None) -> Path:
    """The file to which a new context goes: the first of KUBECONFIG that exists, else its last, else ~/.kube/config."""
    paths = default_paths(environ)
    return next((path for path in paths if path.exists()), paths[-1])


def add_context(
    path: Path,
    name: str,
    *,
    cluster: Mapping[str, Any],
    user: Mapping[str, Any],
    namespace: str | None = None,
    make_current: bool = True,
    timeout: float = 5.0,
) -> None:
    """Add (or replace) a context with a cluster and a user of the same name.

    With `make_current` false it becomes the current context only if there is none. Raises `KubeconfigInvalid`,
    `KubeconfigLocked`.
    """

    def change(document: dict[str, Any]) -> bool:
        context: dict[str, Any] = {"cluster": name, "user": name}
        if namespace is not None:
            context["namespace"] = namespace
        _put(path, document, "clusters", name, {"name": name, "cluster": dict(cluster)})
        _put(path, document, "users", name, {"name": name, "user": dict(user)})
        _put(path, document, "contexts", name, {"name": name, "context": context})
        if make_current or not document.get("current-context"):
            document["current-context"] = name
        return True

    _edit(path, change, timeout=timeout, break_stale=False, create=True)


def remove_context(path: Path, name: str, *, force: bool = False, timeout: float = 5.0) -> bool:
    """Remove a context, with its cluster and user unless another context uses them. Whether it was there.

    `force` goes over a lock that somebody left behind. Raises `KubeconfigInvalid`, `KubeconfigLocked`.
    """
    found = False

    def change(document: dict[str, Any]) -> bool:
        nonlocal found
        contexts = _section(path, document, "contexts")
        mine = next((entry for entry in contexts if entry.get("name") == name), None)
        if mine is None:
            return False
        found = True
        contexts.remove(mine)
        for section, key in (("clusters", "cluster"), ("users", "user")):
            used = {(entry.get("context") or {}).get(key) for entry in contexts}
            part = (mine.get("context") or {}).get(key)
            entries = _section(path, document, section)
            if part not in used:
                entries[:] = [entry for entry in entries if entry.get("name") != part]
        if document.get("current-context") == name:
            document["current-context"] = ""
        return True

    _edit(path, change, timeout=timeout, break_stale=force, create=False)
    return found


def use_context(path: Path, name: str, *, timeout: float = 5.0) -> None:
    """Make a context the current one; that it exists (perhaps in another file) is the caller's knowledge."""

    def change(document: dict[str, Any]) -> bool:
        document["current-context"] = name
        return True

    _edit(path, change, timeout=timeout, break_stale=False, create=True)


def _edit(
    path: Path, change: Callable[[dict[str, Any]], bool], *, timeout: float, break_stale: bool, create: bool
) -> None:
    """Read, change and write under the lock; nothing is written when `change` says that nothing changed."""
    target = path.resolve()  # the file behind a symbolic link is replaced, not the link
    if not create and not target.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target, timeout, break_stale):
            document = read_document(target) or {"apiVersion": "v1", "kind": "Config", "preferences": {}}
            if change(document):
                _write(target, document)
    except OSError as error:
        raise KubeconfigInvalid(path, f"it cannot be changed: {error.strerror}") from None


def _section(path: Path, document: dict[str, Any], section: str) -> list[dict[str, Any]]:
    """The list of a section, in the document."""
    entries = document.get(section)
    if entries is None:
        entries = document[section] = []
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise KubeconfigInvalid(path, f"{section} must be a list of entries")
    return entries


def _put(path: Path, document: dict[str, Any], section: str, name: str, entry: dict[str, Any]) -> None:
    entries = _section(path, document, section)
    for index, old in enumerate(entries):
        if old.get("name") == name:
            entries[index] = entry
            return
    entries.append(entry)


def _write(target: Path, document: Mapping[str, Any]) -> None:
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def _locked(target: Path, timeout: float, break_stale: bool) -> Iterator[None]:
    lock = target.with_name(target.name + ".lock")
    deadline = time.monotonic() + timeout
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            break
        except FileExistsError:
            if break_stale and _is_stale(lock):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(lock)
                continue
            if time.monotonic() >= deadline:
                raise KubeconfigLocked(lock) from None
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lock)


def _is_stale(lock: Path) -> bool:
    try:
        return time.time() - lock.stat().st_mtime > _STALE
    except FileNotFoundError:
        return False
