"""Blank secret values in JSON that is about to be kept or shown.

The one convention is the name: whatever stands under a key `secrets` is secret. Names stay readable, because a
person who looks at a request wants to know which secrets it had; values never do.
"""

from __future__ import annotations

from typing import Any

BLANK = "<redacted>"


def redact(value: Any) -> Any:
    """A copy of JSON data with every value under a `secrets` key blanked, at any depth."""
    if isinstance(value, dict):
        return {key: _blank(item) if key == "secrets" else redact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact(item) for item in value]
    return value


def _blank(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _blank(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_blank(item) for item in value]
    return None if value is None else BLANK
