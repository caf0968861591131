"""The compressed data files, made by scripts/build_schema.py, and the one way to read them."""

from __future__ import annotations

import zlib
from functools import cache
from importlib.resources import files
from typing import Any

import orjson


@cache
def load(name: str) -> Any:
    """The content of `types` or `discovery`: read once, shared, not to be changed."""
    return read(name)


@cache
def fingerprint(name: str) -> int:
    """Stands for the content of a file, for clients that keep what they once read."""
    return zlib.crc32(files(__name__).joinpath(f"{name}.z").read_bytes())


def read(name: str) -> Any:
    """The content of a file that is too big to be kept in memory: `openapi`."""
    return orjson.loads(zlib.decompress(files(__name__).joinpath(f"{name}.z").read_bytes()))
