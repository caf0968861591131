"""What all checks ask of a pod, and the words in which they name what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kubesim.apiserver.requests import JsonObject


def containers(spec: JsonObject) -> Iterator[JsonObject]:
    """All containers, in the order in which they are reported."""
    for key in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(key) or ()


def security(container: JsonObject) -> JsonObject:
    return container.get("securityContext") or {}


def is_windows(spec: JsonObject) -> bool:
    return bool((spec.get("os") or {}).get("name") == "windows")


def quoted_list(words: Iterable[str]) -> str:
    return ", ".join(f'"{one}"' for one in sorted(words))


def named(what: str, names: Sequence[str]) -> str:
    """`container "a"`, `containers "a", "b"`."""
    listed = ", ".join(f'"{one}"' for one in names)
    return f"{what if len(names) == 1 else what + 's'} {listed}"
