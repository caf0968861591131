"""What a store can refuse.

    StoreError
    ├── KeyExists           create: the name is taken
    ├── KeyMissing          update, delete: there is no such object
    ├── RevisionMismatch    update, delete: the object has changed since it was read
    ├── Compacted           the history back to that revision is no longer kept
    ├── RevisionTooLarge    that revision has not been reached within the time that the caller waits
    ├── StorageFailed       the disk failed; no write is taken until it has been found out what is on it
    │   └── DiskFull        the disk has no room; nothing of the write is kept
    ├── StoreClosed         the store has been closed
    ├── StoreInUse          another process has the same directory open
    └── CorruptStore        the data on disk is damaged; it is left exactly as it is

The first five are ordinary answers that the API server turns into Kubernetes errors; the others end up before
a person.
"""

from __future__ import annotations

from pathlib import Path


class StoreError(Exception):
    """The store refused."""

    remedy: str | None = None


class KeyExists(StoreError):
    """An object of this name exists."""


class KeyMissing(StoreError):
    """There is no object of this name."""


class RevisionMismatch(StoreError):
    """The object has been changed since it was read."""

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"expected revision {expected}, found {actual}")
        self.expected = expected
        self.actual = actual


class Compacted(StoreError):
    """The history back to this revision is no longer kept."""

    def __init__(self, requested: int, oldest: int) -> None:
        super().__init__(f"revision {requested} is too old, the oldest that is kept is {oldest}")
        self.requested = requested
        self.oldest = oldest


class RevisionTooLarge(StoreError):
    """The store has not reached this revision yet."""

    def __init__(self, requested: int, current: int) -> None:
        super().__init__(f"revision {requested} is in the future, the newest is {current}")
        self.requested = requested
        self.current = current


class StorageFailed(StoreError):
    """The disk failed: the write is not seen by anybody, and the next one is taken only if the disk can be trusted
    again."""

    remedy = "look at the disk that holds the cluster's data (dmesg), then repeat the request"


class DiskFull(StorageFailed):
    """The disk has no room for the write; nothing of it is kept."""

    remedy = "free space on the disk that holds the cluster's data, then repeat the request"


class StoreClosed(StoreError):
    """The store has been closed."""


class StoreInUse(StoreError):
    """Another process has this store open."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"the store in {directory} is open in another process")
        self.directory = directory
        self.remedy = "stop the other process first"


class CorruptStore(StoreError):
    """The data of the store is damaged."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(f"the store in {directory} is damaged: {reason}")
        self.directory = directory
        self.reason = reason
        self.remedy = "restore a snapshot, or delete the cluster with --force; nothing of it has been removed"
