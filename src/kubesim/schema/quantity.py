"""Quantities (`500m`, `1Gi`, `2e3`), exactly: parsed, compared, added, and written as Kubernetes writes them.

A quantity is a whole number of nano-units and remembers in which family of suffixes it was written. Smaller parts
are rounded away from zero, as the real server does. `canonical` is what the server stores for what a client sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

DECIMAL = "decimal"
BINARY = "binary"
EXPONENT = "exponent"

NANO = 10**9
_MAX = (2**63 - 1) * NANO

_BINARY = {"Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4, "Pi": 1024**5, "Ei": 1024**6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]

_FORM = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_PATTERN = "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
WRONG_FORM = f"quantities must match the regular expression {_PATTERN}"
WRONG_SUFFIX = "unable to parse quantity's suffix"


class InvalidQuantity(ValueError):
    """The text is not a quantity; the message is the real server's."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of nano-units and the family of its suffix."""

    nanos: int
    form: str = DECIMAL

    @property
    def value(self) -> int:
        """Whole units, rounded up."""
        return -(-self.nanos // NANO)

    @property
    def milli(self) -> int:
        """Thousandths, rounded up: what the scheduler counts CPUs in."""
        return -(-self.nanos // 1_000_000)

    def __str__(self) -> str:
        if self.nanos == 0:
            return "0"
        if self.form == BINARY and abs(self.nanos) >= 1024 * NANO and self.nanos % NANO == 0:
            return self._binary()
        number, exponent = self.nanos, -9
        while number % 10 == 0:
            number //= 10
            exponent += 1
        while exponent % 3:
            number *= 10
            exponent -= 1
        if self.form == EXPONENT:
            return f"{number}e{exponent}" if exponent else str(number)
        while exponent > 18:
            number *= 1000
            exponent -= 3
        return f"{number}{_DECIMAL_SUFFIX[exponent]}"

    def _binary(self) -> str:
        number, power = self.nanos // NANO, 0
        while number % 1024 == 0 and power < 6:
            number //= 1024
            power += 1
        return f"{number}{_BINARY_SUFFIX[power]}"


def _scale(suffix: str) -> tuple[int, int, str]:
    """The suffix as numerator, power of ten, family."""
    if suffix in _BINARY:
        return _BINARY[suffix], 0, BINARY
    if suffix in _DECIMAL:
        return 1, _DECIMAL[suffix], DECIMAL
    if len(suffix) > 1 and suffix[0] in "eE":
        try:
            return 1, int(suffix[1:]), EXPONENT
        except ValueError:
            pass
    raise InvalidQuantity(WRONG_SUFFIX)


@lru_cache(maxsize=8192)
def parse(text: str) -> Quantity:
    """The quantity of a text; raises InvalidQuantity."""
    found = _FORM.fullmatch(text)
    if found is None or not (found[2] or found[3]):
        raise InvalidQuantity(WRONG_FORM)
    sign, whole, fraction, suffix = found[1], found[2], found[3] or "", found[4]
    factor, power, form = _scale(suffix)
    number = int((whole or "0") + fraction) * factor * NANO
    power -= len(fraction)
    nanos = number * 10 ** min(power, 64) if power >= 0 else -(-number // 10 ** min(-power, 512))
    nanos = min(nanos, _MAX)
    return Quantity(-nanos if sign == "-" else nanos, form)


@lru_cache(maxsize=8192)
def canonical(text: str) -> str:
    """The text as the server stores it: `0.5` is `500m`, `1024Mi` is `1Gi`."""
    return str(parse(text))


def add(one: Quantity, other: Quantity) -> Quantity:
    """The sum, in the family of the first that is not zero."""
    return Quantity(one.nanos + other.nanos, one.form if one.nanos else other.form)
