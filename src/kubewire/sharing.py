"""One copy of what many objects have in common.

The pods of one template differ in a few words; decoded, each would hold the same containers, tolerations and labels
once more. `Sharing.slim` replaces such parts by ones that were seen before, which halves the memory of a mirror.
Objects that went through it must not be changed.
"""

from __future__ import annotations

from typing import Any

import orjson

_REMEMBERED = 2048


class Sharing:
    """Parts seen lately, by their encoding."""

    def __init__(self) -> None:
        self._parts: dict[bytes, Any] = {}

    def slim(self, obj: dict[str, Any]) -> None:
        """Drop `metadata.managedFields`, which only field managers read; share labels, owners, parts of the spec.

        An update that has no managedFields leaves them as they are (Kubernetes: server-side apply).
        """
        metadata = obj["metadata"]
        metadata.pop("managedFields", None)
        self._share(metadata, 0)
        spec = obj.get("spec")
        if isinstance(spec, dict):
            self._share(spec, 1)

    def _share(self, owner: dict[str, Any], levels: int) -> None:
        for name, value in owner.items():
            if not isinstance(value, dict | list) or not value:
                continue
            encoded = orjson.dumps(value)
            known = self._parts.get(encoded)
            if known is not None:
                owner[name] = known
                continue
            if levels:
                for inner in value if isinstance(value, list) else [value]:
                    if isinstance(inner, dict):
                        self._share(inner, levels - 1)
            if len(self._parts) >= _REMEMBERED:
                self._parts.clear()
            self._parts[encoded] = value
