"""Kubernetes' quantities ("250m", "1Gi", "2e3") as numbers. Pure; what cannot be read counts as 0."""

from __future__ import annotations

import functools
import re
from fractions import Fraction

_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)(?:[eE]([+-]?\d{1,3})|([A-Za-z]*))")
_FACTORS = {
    "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "k": Fraction(10**3),
    "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12), "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40), "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}  # fmt: skip


def parse(text: object) -> float:
    """The number that a quantity means."""
    return _parsed(str(text))


@functools.lru_cache(4096)  # a thousand machines say the same few things
def _parsed(text: str) -> float:
    found = _QUANTITY.fullmatch(text.strip())
    if not found:
        return 0.0
    factor = Fraction(10) ** int(found[2]) if found[2] else _FACTORS.get(found[3] or "")
    return float(Fraction(found[1]) * factor) if factor is not None else 0.0


def gib(text: object) -> float:
    """A quantity of bytes in GiB."""
    return parse(text) / 2**30


def cpus(amount: float) -> str:
    """CPUs as a quantity."""
    return f"{round(amount * 1000)}m"


def memory(amount: float) -> str:
    """GiB as a quantity."""
    return f"{max(1, round(amount * 1024))}Mi"
