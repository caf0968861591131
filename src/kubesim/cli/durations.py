"""Lengths of time as people write them on a command line."""

from __future__ import annotations

from typing import Any

import click


class Seconds(click.ParamType[float]):
    """`30s`, `2m`, `1.5`: a length of time."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        number, factor = (text, 1.0)
        for suffix, seconds in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
            if text.endswith(suffix):
                number, factor = text.removesuffix(suffix), seconds
                break
        try:
            found = float(number) * factor
        except ValueError:
            found = -1.0
        if not 0 <= found < 1e7:
            self.fail(f"{text!r} is not a length of time; write 30s, 2m or 0.5s", param, ctx)
        return found
