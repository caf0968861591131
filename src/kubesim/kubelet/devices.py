"""Which container has which of the node's GPUs. A plain process sees all of them; CUDA is told which ones to use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

GPU_RESOURCE = "nvidia.com/gpu"


class NoDevice(Exception):
    """Fewer GPUs are free than the container asks for."""


class Devices:
    """The GPUs of one node, by index, and who holds them."""

    def __init__(self, indices: Iterable[int]) -> None:
        self._all = sorted(indices)
        self._held: dict[str, list[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def claim(self, owner: str, count: int) -> list[int]:
        """Give `count` GPUs to an owner; the ones that it has already, if it has. Raises NoDevice."""
        held = self._held.get(owner)
        if held is not None and len(held) == count:
            return held
        taken = {index for other, indices in self._held.items() if other != owner for index in indices}
        free = [index for index in self._all if index not in taken]
        if len(free) < count:
            raise NoDevice(f"{count} GPUs are asked for, {len(free)} of {len(self._all)} are free")
        self._held[owner] = free[:count]
        return free[:count]

    def restore(self, owner: str, indices: Sequence[int]) -> None:
        """Write down who holds what after a restart."""
        if indices:
            self._held[owner] = list(indices)

    def release(self, prefix: str) -> None:
        """Take back what every owner whose name starts so holds."""
        for owner in [owner for owner in self._held if owner.startswith(prefix)]:
            del self._held[owner]

    def environment(self, indices: Sequence[int]) -> dict[str, str]:
        """What tells CUDA which GPUs to use; nothing on a node without any."""
        if not self._all:
            return {}
        visible = ",".join(map(str, indices))
        return {"CUDA_VISIBLE_DEVICES": visible, "NVIDIA_VISIBLE_DEVICES": visible or "void"}
