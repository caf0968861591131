"""The one clock and the one source of chance that everything in a cluster uses, so that a run can be
repeated."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from datetime import datetime

from kubesim import clock

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' alphabet for generated names: no vowels, nothing that looks alike."""


class Environment:
    def __init__(self, now: Callable[[], datetime] = clock.now, seed: int | None = None) -> None:
        self.now = now
        self._random = random.Random(seed) if seed is not None else random.SystemRandom()

    def timestamp(self) -> str:
        """Now, as objects carry it."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def uid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def choose(self, options: str) -> str:
        """One of the characters."""
        return self._random.choice(options)

    def suffix(self, length: int = 5) -> str:
        """What generateName appends."""
        return "".join(self._random.choices(_SUFFIX, k=length))

    def number(self, low: int, high: int) -> int:
        """A number between these, both included."""
        return self._random.randint(low, high)
