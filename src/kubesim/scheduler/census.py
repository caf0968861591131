"""How many pods on a node are such and such, without counting them again for every decision.

A question that is asked of all nodes for every pod (how many pods does this selector take?) is registered once; each
node then keeps its answer up to date as pods come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubesim.scheduler.model import PodInfo

_MOST = 256


class Question:
    """Whether a pod counts. Compared by identity, so that looking up an answer costs nothing."""

    __slots__ = ("epoch", "matches")

    def __init__(self, matches: Callable[[PodInfo], bool], epoch: object) -> None:
        self.matches = matches
        self.epoch = epoch


class Census:
    """The questions that are asked now."""

    def __init__(self) -> None:
        self._epoch = object()
        self._known: dict[Hashable, Question] = {}

    def ask(self, key: Hashable, matches: Callable[[PodInfo], bool]) -> Question:
        """The question of that key; the same one each time."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST:
                self.renew()
            found = self._known[key] = Question(matches, self._epoch)
        return found

    def renew(self) -> None:
        """Forget all answers: something that they depend on has changed, or there are too many."""
        self._epoch = object()
        self._known.clear()
