"""Which stored objects a selector takes, asked of a small index and not of the decoded object.

The index of an object (its labels and the values of the fields that its kind lets one select by) is made when
a selector first asks for it and then stays with the stored bytes, which never change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kubesim.apiserver.listoptions import ListOptions
from kubesim.apiserver.objects import decode
from kubesim.apiserver.selectors import field_values
from kubesim.schema.registry import ResourceType
from kubesim.store import Stored


@dataclass(frozen=True, slots=True)
class Index:
    labels: Mapping[str, str]
    values: Mapping[str, str]


_NO_LABELS: Mapping[str, str] = {}


def index_of(stored: Stored, storage: ResourceType) -> Index:
    index: Index | None = stored.index
    if index is None:
        obj = decode(stored.data, storage)
        index = Index(obj["metadata"].get("labels") or _NO_LABELS, field_values(storage, obj))
        stored.index = index
    return index


Accept = Callable[[Stored], bool]


def acceptor(options: ListOptions, storage: ResourceType) -> Accept | None:
    """A test for stored objects, or None when everything is taken."""
    labels, fields = options.labels, options.fields
    if labels.empty and fields.empty:
        return None

    def accept(stored: Stored) -> bool:
        index = index_of(stored, storage)
        return (labels.empty or labels.matches(index.labels)) and (
            fields.empty or fields.matches(index.values)
        )

    return accept
