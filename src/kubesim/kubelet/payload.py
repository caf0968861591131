"""The files of a volume, replaced all at once, in the layout that programs know from real clusters.

    VOLUME/..2026_01_02_03_04_05.678/key      the files of one moment
    VOLUME/..data -> ..2026_01_02_03_04_05.678
    VOLUME/key -> ..data/key

A change makes a new folder and turns `..data` over in one step: a reader sees all old files or all new ones, and who
watches for changes as in a real cluster watches `..data`. What is the same is not written again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DATA = "..data"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume."""

    path: str  # relative
    data: bytes
    mode: int


def replace_files(directory: Path, files: Iterable[File], now: float | None = None) -> bool:
    """Make a folder hold exactly these files; whether that changed anything."""
    wanted = {file.path: file for file in files}
    directory.mkdir(parents=True, exist_ok=True)
    if _held(directory) == {path: (file.data, file.mode) for path, file in wanted.items()}:
        return False
    fresh = _new_folder(directory, time.time() if now is None else now)
    for file in wanted.values():
        place = fresh / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.data)
        place.chmod(file.mode)
    old = _turn_over(directory, fresh.name)
    tops = {path.split("/", 1)[0] for path in wanted}
    for top in tops:
        if not os.path.lexists(directory / top):
            (directory / top).symlink_to(f"{DATA}/{top}")
    for entry in directory.iterdir():
        if entry.is_symlink() and entry.name not in tops and os.readlink(entry).startswith(f"{DATA}/"):
            entry.unlink()
    if old is not None:
        shutil.rmtree(directory / old, ignore_errors=True)
    return True


def _held(directory: Path) -> dict[str, tuple[bytes, int]] | None:
    """What the folder holds, None when it was never completed."""
    data = directory / DATA
    if not data.is_dir():
        return None
    return {
        str(place.relative_to(data)): (place.read_bytes(), place.stat().st_mode & 0o7777)
        for place in data.rglob("*")
        if place.is_file()
    }


def _new_folder(directory: Path, now: float) -> Path:
    """A folder for a moment; two changes within a millisecond get different ones."""
    stamp = f"..{time.strftime('%Y_%m_%d_%H_%M_%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}"
    number = 0
    while True:
        fresh = directory / (f"{stamp}.{number}" if number else stamp)
        try:
            fresh.mkdir()
        except FileExistsError:
            number += 1
        else:
            return fresh


def _turn_over(directory: Path, name: str) -> str | None:
    """Have `..data` mean another folder; the name of the one before."""
    link, temporary = directory / DATA, directory / f"{DATA}_tmp"
    old = os.readlink(link) if link.is_symlink() else None
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(link)
    return old
