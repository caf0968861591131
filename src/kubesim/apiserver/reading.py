"""get, list and watch: at which revision, which part, and in which form."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable

from kubesim import errors
from kubesim.apiserver.calls import Call
from kubesim.apiserver.listoptions import (
    EXPIRED_LIST,
    EXPIRED_PAGE,
    INCONSISTENT,
    ListOptions,
    check_version,
    make_token,
    parse_list_options,
    read_token,
)
from kubesim.apiserver.requests import JsonObject, Reply, StreamReply
from kubesim.apiserver.selection import acceptor
from kubesim.apiserver.watching import View, Watch
from kubesim.errors import StatusError
from kubesim.schema.registry import Registry, ResourceType
from kubesim.store import Compacted, RevisionTooLarge, Store

FUTURE_TIMEOUT = 3.0
WATCH_TIMEOUT = 1800.0

_unshared = itertools.count()


async def get(call: Call) -> Reply:
    version = call.request.query.get("resourceVersion")
    why = check_version(version)
    if why is not None:
        raise errors.unclassified(why)
    if version:
        await reach(call.store, int(version))
    if call.request.as_of is None:
        stored = call.table.get(call.key)
    else:
        stored = call.table.state(call.key, max(call.newest, int(version or 0)))
    if stored is None:
        raise call.not_found()
    return call.renderer.one(stored)


async def list_(call: Call) -> Reply:
    options = parse_list_options(call.request.query, call.rt, watch=False)
    accept = acceptor(options, call.storage)
    if accept is not None:
        after = read_token(options.token)[1] if options.token else ""
        candidates = call.table.all(call.route.namespace, after)
        accept = await call.turns.judged(accept, candidates, options.limit and options.limit + 1)
    revision, after, at, limit = await _place(call, options)
    try:
        if at is not None:
            call.store.kept(at)
        async with call.turns.one() if accept is not None else contextlib.nullcontext():
            revision = call.store.revision if at is None else revision
            page = call.table.page(
                namespace=call.route.namespace, after=after, limit=limit, at=at, accept=accept
            )
    except Compacted:
        raise _expired(options) from None
    metadata: JsonObject = {"resourceVersion": str(revision)}
    if page.last is not None:
        metadata["continue"] = make_token(revision, page.last)
        if not options.selects:
            metadata["remainingItemCount"] = page.remaining
    elif call.rt.custom:
        metadata["continue"] = ""
    return await call.renderer.list(page.items, metadata)


async def _place(call: Call, options: ListOptions) -> tuple[int, str, int | None, int]:
    """(revision of the list, name to start after, revision to read at or None for now, limit)."""
    store = call.store
    if options.token:
        revision, after = read_token(options.token)
        if options.version not in ("", "0"):
            raise errors.bad_request("specifying resource version is not allowed when using continue")
        if revision == INCONSISTENT:
            return store.revision, after, None, options.limit
        await reach(store, revision)
        return revision, after, revision, options.limit
    limit = 0 if options.version == "0" else options.limit
    if options.version and options.version != "0":
        await reach(store, options.revision)
        if options.match == "Exact" or (options.limit and not options.match):
            return options.revision, "", options.revision, options.limit
    if call.request.as_of is not None:
        revision = max(call.newest, options.revision)
        return revision, "", revision, limit
    return store.revision, "", None, limit


def _expired(options: ListOptions) -> StatusError:
    if not options.token:
        return errors.gone(EXPIRED_LIST)
    refusal = errors.gone(EXPIRED_PAGE)
    _, after = read_token(options.token)
    refusal.metadata = {"continue": make_token(INCONSISTENT, after)}
    return refusal


async def reach(store: Store, revision: int) -> None:
    """Wait a moment for a revision that is not there yet; 504 as client-go's reflectors expect it."""
    if revision <= store.revision:
        return
    try:
        await store.reach(revision, FUTURE_TIMEOUT)
    except RevisionTooLarge as error:
        raise errors.timeout(
            f"Timeout: Too large resource version: {error.requested}, current: {error.current}",
            retry_after=1,
            causes=[{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        ) from None


async def watch(call: Call, registry: Registry) -> StreamReply:
    options = parse_list_options(call.request.query, call.rt, watch=True)
    if call.name:
        options = _only(call, options)
    after = None if options.version in ("", "0") else options.revision
    if options.initial_events is True:
        if options.revision:
            await reach(call.store, options.revision)
        after = None
    elif options.initial_events is False and after is None:
        after = call.store.revision
    timeout = options.timeout if options.timeout else WATCH_TIMEOUT * random.uniform(1, 2)
    watching = Watch(
        store=call.store,
        table=call.table,
        view=_view(call, options),
        after=after,
        timeout=timeout,
        bookmarks=options.bookmarks,
        mark_initial=options.initial_events is True and options.bookmarks,
        served=_still_served(call.rt, registry) if call.rt.custom else None,
    )
    return StreamReply(chunks=watching.chunks())


def _still_served(rt: ResourceType, registry: Registry) -> Callable[[], bool]:
    """Watches of custom resources end when their definition changes or goes."""

    def served() -> bool:
        now = registry.find(rt.group, rt.version, rt.plural)
        return now is not None and now.schema is rt.schema

    return served


def _only(call: Call, options: ListOptions) -> ListOptions:
    """The old /watch/ paths with a name watch one object."""
    query = type(call.request.query)(
        [("fieldSelector", f"metadata.name={call.name}"), ("timeoutSeconds", f"{options.timeout or 0:.0f}")]
        + [
            (n, call.request.query.get(n))
            for n in ("resourceVersion", "allowWatchBookmarks", "labelSelector")
        ]
    )
    return parse_list_options(query, call.rt, watch=True)


def _view(call: Call, options: ListOptions) -> View:
    renderer = call.renderer
    key: tuple[str, ...] = (
        call.rt.api_version,
        call.route.namespace or "",
        options.label_text,
        options.field_text,
    )
    if not renderer.shareable:
        key = (*key, str(next(_unshared)))
    return View(
        key=key,
        render=renderer.event_object(),
        at_version=renderer.at_version,
        bookmark=renderer.bookmark,
        namespace=call.route.namespace,
        accept=acceptor(options, call.storage),
    )
