"""JSON Merge Patch (RFC 7386): null deletes, objects merge, everything else is replaced."""

from __future__ import annotations

from typing import Any


def merge_patch(document: Any, patch: Any) -> Any:
    """The patched document; it shares with the old one what the patch does not name."""
    if not isinstance(patch, dict):
        return patch
    made = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict):
            made[key] = merge_patch(made.get(key), value)
        else:
            made[key] = value
    return made
