"""Warnings to clients as headers: quoted, without what a header cannot have, and not more than clients can take.

The texts come from requests, policies and webhooks. Lengths are the real server's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_TOGETHER = 4096
_EACH_WHEN_MANY = 256
_MOST_WHEN_MANY = 64  # ours: Python's http.client refuses an answer of more than 100 headers
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def warning_headers(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Each text once. When they are more than a few, all are cut; what is too much then is left out."""
    once = list(dict.fromkeys(texts))
    if sum(map(len, once)) > _TOGETHER:
        once = list(_shortened(once))
    return [("Warning", _quoted(text)) for text in once]


def _shortened(texts: Sequence[str]) -> Iterator[str]:
    left = _TOGETHER
    for text in texts[:_MOST_WHEN_MANY]:
        cut = text[:_EACH_WHEN_MANY]
        left -= len(cut)
        if left < 0:
            return
        yield cut


def _quoted(text: str) -> str:
    escaped = _CONTROL.sub(" ", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'
