"""Strings and bytes: the predicates of the standard library, cel-go's extension, and Kubernetes' `find` and `findAll`.

Regular expressions are RE2's (`schema.expressions`), as in Kubernetes: no pattern makes them slower than linear.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from kubesim.schema.cel.formatting import format_
from kubesim.schema.cel.functions import define, string_of
from kubesim.schema.cel.values import TOO_MUCH, CelError, pay
from kubesim.schema.expressions import Expression, InvalidExpression, expression

_LARGEST = 10_000_000
"""Characters of a text that an expression may make."""


def _priced(text: str, pattern: str) -> Expression:
    """The expression, paid for as in the real server: by what it has to look at and by how long it is."""
    pay((1 + len(text) // 10) * (1 + len(pattern) // 4))
    try:
        return expression(pattern)
    except InvalidExpression as wrong:
        raise CelError(str(wrong)) from None


def _matches(text: str, pattern: str) -> bool:
    return _priced(text, pattern).search(text) is not None


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    for one in _priced(text, pattern).finditer(text):
        if 0 <= limit <= len(found):
            break
        pay(1 + (len(text) - one.end()) // 10)  # to find one, the expression may look at all the rest
        found.append(one[0])
    return found


def _find(text: str, pattern: str) -> str:
    found = _priced(text, pattern).search(text)
    return found[0] if found is not None else ""


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise CelError(f"index out of range: {at}")
    return text[at : at + 1]


def _substring(text: str, start: int, end: int | None = None) -> str:
    end = len(text) if end is None else end
    if not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    if not 0 <= end <= len(text):
        raise CelError(f"index out of range: {end}")
    if start > end:
        raise CelError(f"invalid substring range. start: {start}, end: {end}")
    return text[start:end]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    return text.find(part, start)


def _last_index_of(text: str, part: str, last: int | None = None) -> int:
    if last is None:
        return text.rfind(part)
    if not 0 <= last <= len(text):
        raise CelError(f"index out of range: {last}")
    return text.rfind(part, 0, last + len(part))


def _split(text: str, by: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if by == "":
        letters = list(text)
        return (
            letters
            if limit < 0 or len(letters) <= limit
            else [*letters[: limit - 1], "".join(letters[limit - 1 :])]
        )
    return text.split(by, limit - 1 if limit > 0 else -1)


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    if (len(text) + 1) * (len(new) + 1) > _LARGEST:
        raise CelError(TOO_MUCH)
    return text.replace(old, new, limit)


def _join(values: list[Any], by: str = "") -> str:
    if not all(isinstance(one, str) for one in values):
        raise CelError("no such overload")
    if sum(map(len, values)) + len(by) * len(values) > _LARGEST:
        raise CelError(TOO_MUCH)
    return by.join(values)


_TO_LOWER = {ord(one): one.lower() for one in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
_TO_UPPER = {ord(one): one.upper() for one in "abcdefghijklmnopqrstuvwxyz"}
_QUOTED = {
    "\\": "\\\\",
    '"': '\\"',
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\v": "\\v",
}
define("contains", "s.s:b", lambda text, part: part in text)
define("startsWith", "s.s:b", str.startswith)
define("endsWith", "s.s:b", str.endswith)
define("matches", "s.s:b ss:b", _matches)
define("find", "s.s:s", _find)
define("findAll", "s.s:l s.si:l", _find_all)
define("charAt", "s.i:s", _char_at)
define("indexOf", "s.s:i s.si:i", _index_of)
define("lastIndexOf", "s.s:i s.si:i", _last_index_of)
define("lowerAscii", "s.:s", lambda text: text.translate(_TO_LOWER))
define("upperAscii", "s.:s", lambda text: text.translate(_TO_UPPER))
define("replace", "s.ss:s s.ssi:s", _replace)
define("split", "s.s:l s.si:l", _split)
define("substring", "s.i:s s.ii:s", _substring)
define("trim", "s.:s", str.strip)
define("reverse", "s.:s", lambda text: text[::-1])
define("reverse", "l.:l", lambda values: values[::-1])
define("join", "l.:s l.s:s", _join)
define("format", "s.l:s", lambda text, values: format_(text, values, string_of))
define("strings.quote", "s:s", lambda text: '"' + "".join(_QUOTED.get(one, one) for one in text) + '"')


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise CelError("illegal base64 data at input byte 0") from None


define("base64.encode", "y:s", lambda value: base64.b64encode(value).decode())
define("base64.decode", "s:y", _decoded)
