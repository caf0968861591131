"""Snapshots as files: which form one has, how it is read and written. A name that ends in `.gz` is compressed.

A file is written beside its place and moved there when it is whole, so that a snapshot that exists is one.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from kubesim.cluster.errors import SnapshotRefused
from kubesim.schema.bodies import DecodeError, load_yaml
from kubesim.schema.yamltext import dump_yaml

JsonObject = dict[str, Any]

FULL, OBJECTS = "full", "k8s"
_SEPARATOR = re.compile(rb"^---[ \t]*\r?$|^---[ \t]+#.*$", re.MULTILINE)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there, whole and on disk, when this ends without an error, and else not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed:
                    yield packed  # type: ignore[misc]
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a snapshot. Raises SnapshotRefused for a file that cannot be read."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=raw, mode="rb") as unpacked:
                    yield unpacked  # type: ignore[misc]
            else:
                yield raw
    except (OSError, EOFError) as error:
        raise SnapshotRefused(f"{path} cannot be read: {error}") from error


def form_of(path: Path) -> str:
    """`full` or `k8s`, by what the file begins with."""
    with reading(path) as file:
        return FULL if file.read(13).startswith(b'{"snapshot":') else OBJECTS


def write_objects(path: Path, objects: Iterable[JsonObject]) -> None:
    """Documents of YAML, as KWOK writes them."""
    with writing(path) as file:
        for obj in objects:
            file.write(dump_yaml(obj, sort_keys=False) + b"---\n")


def read_objects(path: Path) -> list[JsonObject]:
    """The objects of such a file. Raises SnapshotRefused with the number of the document that is wrong."""
    with reading(path) as file:
        documents = _SEPARATOR.split(file.read())
    objects: list[JsonObject] = []
    for number, document in enumerate(documents, 1):
        try:
            value = load_yaml(document) if document.strip() else None
        except DecodeError as error:
            raise SnapshotRefused(f"{path}, document {number}: {error}") from None
        if value is None:
            continue
        parts = (
            value.get("items") or [] if isinstance(value, dict) and value.get("kind") == "List" else [value]
        )
        for part in parts:
            if not _is_object(part):
                raise SnapshotRefused(f"{path}, document {number} is not an object of Kubernetes")
            objects.append(part)
    if not objects:
        raise SnapshotRefused(f"{path} holds no objects")
    return objects


def _is_object(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        return False
    named = isinstance(value["metadata"].get("name"), str)
    return named and isinstance(value.get("apiVersion"), str) and isinstance(value.get("kind"), str)
