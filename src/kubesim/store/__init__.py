"""Versioned objects: one revision counter, a table per resource, a window of history for watches, a journal
on disk.

The store knows bytes and names, nothing of Kubernetes: what an object means is the API server's business. Two
ways to open it: `memory` forgets everything with the process, `durable` has written and synced each change
before anybody sees it, so that what was acknowledged or watched can never be taken back.
"""

from kubesim.store.errors import (
    Compacted,
    CorruptStore,
    DiskFull,
    KeyExists,
    KeyMissing,
    RevisionMismatch,
    RevisionTooLarge,
    StorageFailed,
    StoreClosed,
    StoreError,
    StoreInUse,
)
from kubesim.store.history import HistoryLimits
from kubesim.store.opening import open_store, verify
from kubesim.store.records import Change, ChangeType, Stored
from kubesim.store.replacing import replace_store
from kubesim.store.store import Store
from kubesim.store.table import Page, Table

__all__ = [
    "Change",
    "ChangeType",
    "Compacted",
    "CorruptStore",
    "DiskFull",
    "HistoryLimits",
    "KeyExists",
    "KeyMissing",
    "Page",
    "RevisionMismatch",
    "RevisionTooLarge",
    "StorageFailed",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreInUse",
    "Stored",
    "Table",
    "open_store",
    "replace_store",
    "verify",
]
