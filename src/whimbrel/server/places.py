"""Where clusters can be, as operations see it, made of `whimbrel.infra`."""

from __future__ import annotations
