"""The query of lists and watches, checked as the real server checks it, and the tokens that continue a
list."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import orjson

from kubesim import errors
from kubesim.apiserver.requests import Query
from kubesim.apiserver.selectors import (
    FieldSelector,
    LabelSelector,
    parse_field_selector,
    parse_label_selector,
)
from kubesim.errors import FieldError
from kubesim.schema.registry import ResourceType

INCONSISTENT = -1
"""The revision in a token that goes on at whatever is newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    labels: LabelSelector
    fields: FieldSelector
    label_text: str
    field_text: str
    limit: int
    token: str
    version: str
    """resourceVersion as it was given: empty, or a number."""
    match: str
    watch: bool
    timeout: float | None
    bookmarks: bool
    initial_events: bool | None

    @property
    def revision(self) -> int:
        return int(self.version) if self.version else 0

    @property
    def selects(self) -> bool:
        return bool(self.label_text or self.field_text)


def parse_list_options(query: Query, rt: ResourceType, *, watch: bool) -> ListOptions:
    """Raises StatusError: 400 for what cannot be read, 422 for what contradicts itself."""
    limit = _integer(query.get("limit"))
    timeout = _integer(query.get("timeoutSeconds"))
    initial = query.flag("sendInitialEvents") if query.has("sendInitialEvents") else None
    label_text, field_text = query.get("labelSelector").strip(), query.get("fieldSelector").strip()
    options = ListOptions(
        labels=parse_label_selector(label_text),
        fields=parse_field_selector(field_text, rt),
        label_text=label_text,
        field_text=field_text,
        limit=max(limit or 0, 0),
        token=query.get("continue"),
        version=query.get("resourceVersion"),
        match=query.get("resourceVersionMatch"),
        watch=watch,
        timeout=float(timeout) if timeout is not None else None,
        bookmarks=query.flag("allowWatchBookmarks"),
        initial_events=initial,
    )
    problems = _watch_problems(options) if watch else _list_problems(options)
    if problems:
        raise errors.invalid("ListOptions.meta.k8s.io", "", problems)
    _check_version(options)
    return options


def _integer(text: str) -> int | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        quoted = errors.quoted(text)
        raise errors.bad_request(f"strconv.ParseInt: parsing {quoted}: invalid syntax") from None


def check_version(text: str) -> str | None:
    """Why this is no resource version, in Go's words."""
    if text and not (text.isascii() and text.isdigit()):
        quoted = errors.quoted(text)
        parsing = f"strconv.ParseUint: parsing {quoted}: invalid syntax"
        return f"resourceVersion: Invalid value: {quoted}: {parsing}"
    return None


def _check_version(options: ListOptions) -> None:
    why = check_version(options.version)
    if why is None:
        return
    if options.watch:
        raise errors.unclassified(why)
    raise errors.bad_request(f"invalid resource version: {why}")


def _list_problems(options: ListOptions) -> list[FieldError]:
    match = options.match
    problems = []
    if match:
        path = "resourceVersionMatch"
        if options.token:
            problems.append(
                errors.forbidden_field(path, "resourceVersionMatch is forbidden when continue is provided")
            )
        if not options.version:
            why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            problems.append(errors.forbidden_field(path, why))
        if match not in ("Exact", "NotOlderThan"):
            problems.append(errors.not_supported(path, match, ("Exact", "NotOlderThan", "")))
        if match == "Exact" and options.version == "0":
            why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            problems.append(errors.forbidden_field(path, why))
    if options.initial_events is not None:
        why = "sendInitialEvents is forbidden for list"
        problems.append(errors.forbidden_field("sendInitialEvents", why))
    return problems


def _watch_problems(options: ListOptions) -> list[FieldError]:
    path = "resourceVersionMatch"
    problems = []
    if options.initial_events is not None and options.match != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        problems.append(errors.forbidden_field(path, why))
    if options.match:
        if options.initial_events is None:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            problems.append(errors.forbidden_field(path, why))
        if options.match != "NotOlderThan":
            problems.append(errors.not_supported(path, options.match, ("NotOlderThan",)))
    if options.token:
        why = "resourceVersionMatch is forbidden when continue is provided"
        problems.append(errors.forbidden_field(path, why))
    return problems


# Continue tokens


def make_token(revision: int, last: str) -> str:
    """A token for the page after the name `last`, of the list at this revision."""
    token = orjson.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": last + "\0"})
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def _first_illegal(text: str) -> int:
    """Where Go stops to read base64 without padding."""
    bad = (at for at, one in enumerate(text) if not (one.isascii() and (one.isalnum() or one in "-_")))
    return next(bad, len(text) - len(text) % 4)


def read_token(text: str) -> tuple[int, str]:
    """The revision and the last name of the page before. Raises StatusError 400."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        why = f"continue key is not valid: illegal base64 data at input byte {_first_illegal(text)}"
        raise errors.bad_request(f"invalid continue token: {why}") from None
    try:
        token = orjson.loads(raw)
        revision, start = int(token["rv"]), str(token["start"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        first = f"\\x{raw[0]:02x}" if raw and raw[0] > 126 else raw[:1].decode("ascii", "replace")
        why = f"invalid character '{first}' looking for beginning of value"
        raise errors.bad_request(f"invalid continue token: continue key is not valid: {why}") from None
    if token.get("v") != "meta.k8s.io/v1" or revision == 0 or not start.endswith("\0"):
        raise errors.bad_request("invalid continue token: continue key is not valid")
    return revision, start[:-1]


EXPIRED_LIST = "The resourceVersion for the provided list is too old."
EXPIRED_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list "
    "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
    "modified, or deleted between the time the first chunk was returned and now may show up in the list."
)
