"""create, update and patch: from what a client sent to one commit in the store.

A create is decoded, defaulted, named, admitted, prepared, validated, and stored. An update is the same around
the object as it is: whoever wants a change hands in a function from the old object to the new one, which is
repeated when somebody else was faster, unless the client has pinned the version that it saw. An update that
changes nothing writes nothing. Everything that is particular to a kind is its Strategy's, who owns which
field is `patch.managed`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kubesim import errors
from kubesim.apiserver.admission.base import Attempt, GroupVersionKind, Operation
from kubesim.apiserver.allocation import Taking
from kubesim.apiserver.auth import Attributes, authorize
from kubesim.apiserver.bodies import read_body
from kubesim.apiserver.calls import Call
from kubesim.apiserver.core import Core
from kubesim.apiserver.defaulting import default
from kubesim.apiserver.deleting import remove
from kubesim.apiserver.kinds import strategy
from kubesim.apiserver.objects import encode
from kubesim.apiserver.options import DeleteOptions, WriteOptions, write_options
from kubesim.apiserver.patch import managed
from kubesim.apiserver.requests import JsonObject, Reply
from kubesim.apiserver.validation import validate_create, validate_update
from kubesim.schema.decode import (
    SCHEME,
    Decoded,
    DecodeError,
    convert,
    decode,
    strict_texts,
)
from kubesim.schema.meta import carry_over, generated_name
from kubesim.schema.types import kind_type
from kubesim.store import KeyExists, KeyMissing, RevisionMismatch, Stored

ATTEMPTS = 20

NAME_ATTEMPTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """An object as a client wants it: decoded, in the version of the request."""

    obj: JsonObject
    warnings: tuple[str, ...] = ()
    requested: Any = None
    """metadata.managedFields as the body had it: decoding drops an empty list, which means something here."""
    applied: bool = False
    """Server-side apply has settled who owns what."""


Change = Callable[[JsonObject], Proposed]
"""From the object as it is (in the version of the request) to the object as it is wanted."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a write has led to: an object in the store, or (dry run, last update of what goes) one that is
    not."""

    obj: JsonObject
    stored: Stored | None
    warnings: list[str]
    created: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How a subresource shows the object to admission: as an object of another kind."""

    of: GroupVersionKind
    show: Callable[[JsonObject], JsonObject]
    back: Callable[[JsonObject, JsonObject], JsonObject]
    """The object with what admission has changed in the one that it was shown."""


def attempt(
    call: Call,
    operation: Operation,
    options: WriteOptions | DeleteOptions,
    name: str,
    old: JsonObject | None = None,
    *,
    of: GroupVersionKind | None = None,
    name_generated: bool = False,
) -> Attempt:
    return Attempt(
        operation=operation,
        rt=call.rt,
        subresource=call.route.subresource or "",
        namespace=call.namespace,
        name=name,
        user=call.request.user,
        old=old,
        dry_run=options.dry_run,
        of=of,
        options=options.document,
        name_generated=name_generated,
        notes=call.request.notes,
    )


def reply(call: Call, written: Written) -> Reply:
    status = 201 if written.created else 200
    if written.stored is not None:
        answer = call.renderer.one(written.stored, status)
    else:
        answer = call.renderer.object(written.obj, status)
    call.request.notes.warnings[:0] = written.warnings
    return answer


def read_object(call: Call, options: WriteOptions) -> Proposed:
    """The object in the body of a create or an update."""
    body = read_body(call.request, call.rt.kind)
    decoded = decode(call.rt, body.value, options.validation, body.duplicates)
    return Proposed(
        obj=decoded.obj, warnings=tuple(decoded.warnings), requested=requested_managers(body.value)
    )


def requested_managers(document: JsonObject) -> Any:
    """metadata.managedFields of an undecoded object."""
    meta = document.get("metadata")
    return meta.get("managedFields") if isinstance(meta, dict) else None


def read_as(call: Call, group: str, version: str, kind: str, options: WriteOptions) -> Decoded:
    """The body of a subresource that takes another kind than its resource: Binding, Eviction,
    TokenRequest."""
    body = read_body(call.request, kind)
    api_version = f"{group}/{version}" if group else version
    given_version = body.value.get("apiVersion") or api_version
    given_kind = body.value.get("kind") or kind
    if given_kind != kind or given_version.partition("/")[0] != api_version.partition("/")[0]:
        raise errors.bad_request(
            f'{given_kind} in version "{given_version}" cannot be handled as a {kind}: '
            f'no kind "{given_kind}" is registered for version "{given_version}" in scheme "{SCHEME}"'
        )
    type_ = kind_type(group, version, kind)
    if type_ is None:
        raise errors.no_such_path()
    try:
        obj, unknown = convert(type_, body.value)
    except DecodeError as wrong:
        raise errors.bad_request(
            f'{kind} in version "{version}" cannot be handled as a {kind}: {wrong}'
        ) from None
    texts = strict_texts(unknown, body.duplicates) if options.validation != "Ignore" else []
    if texts and options.validation == "Strict":
        raise errors.bad_request(
            f'{kind} in version "{version}" cannot be handled as a {kind}: '
            f"strict decoding error: {', '.join(texts)}"
        )
    return Decoded({"kind": kind, "apiVersion": api_version, **obj}, texts)


# Create


async def create(core: Core, call: Call) -> Reply:
    options = write_options(call.request, "CreateOptions")
    return reply(call, await create_object(core, call, read_object(call, options), options))


async def create_object(core: Core, call: Call, proposed: Proposed, options: WriteOptions) -> Written:
    """Store a new object. Raises StatusError 403, 404, 409, 422."""
    rt, kind = call.rt, strategy(call.rt)
    if call.request.method != "POST":  # an update or an apply was allowed; this has to be as well
        authorize(core.authorizer, call.request.user, _creation(call))
    obj = _named(core, call, proposed.obj)
    for remaining in reversed(range(NAME_ATTEMPTS)):
        made = default(rt, _identified(core, call, obj))
        made = _owned(core, call, None, made, proposed, options)
        name = made["metadata"].get("name", "")
        generated = not obj["metadata"].get("name")
        tried = attempt(call, "CREATE", options, name, name_generated=generated)
        made = await core.admission.admit(core, tried, made)
        try:
            with Taking(core.addresses) as taking:
                context = core.context(taking)
                made = kind.prepare_create(rt, made, context)
                problems = validate_create(rt, made)
                if problems:
                    raise errors.invalid(call.storage.group_kind, made["metadata"].get("name", ""), problems)
                made = kind.allocate(rt, None, made, context)
                warnings = [*proposed.warnings, *kind.warnings(rt, None, made)]
                key = f"{call.namespace}/{made['metadata']['name']}"
                await core.admission.validate(core, tried, made)
                async with core.admission.holding(core, tried, made):
                    stored = await _store_new(core, call, key, made, options, taking)
        except KeyExists:
            if obj["metadata"].get("name") or not remaining:
                raise _exists(call, obj, made) from None
            continue
        return Written(made, stored, warnings, created=True)
    raise AssertionError("the last attempt returns or raises")


def _creation(call: Call) -> Attributes:
    return Attributes(
        verb="create",
        path=call.request.path,
        group=call.rt.group,
        resource=call.rt.plural,
        namespace=call.namespace,
        name=call.name,
    )


def _owned(
    core: Core,
    call: Call,
    live: JsonObject | None,
    new: JsonObject,
    proposed: Proposed,
    options: WriteOptions,
) -> JsonObject:
    """The object with managedFields as this write leaves them."""
    if proposed.applied:
        return new
    subresource = call.route.subresource or ""
    entries = managed.updated(
        call.rt,
        live,
        new,
        manager=options.manager,
        now=core.environment.timestamp(),
        subresource=subresource,
        ignored=strategy(call.rt).reset_fields(call.rt, subresource),
        requested=proposed.requested,
    )
    meta = {key: value for key, value in new["metadata"].items() if key != "managedFields"}
    if entries:
        meta["managedFields"] = entries
    return {**new, "metadata": meta}


async def _store_new(
    core: Core, call: Call, key: str, obj: JsonObject, options: WriteOptions, taking: Taking
) -> Stored | None:
    if options.dry_run:
        if core.store.head(call.resource, key) is not None:
            raise KeyExists(key)
        return None
    state = core.to_storage(call.rt, obj)
    write = core.store.create(call.resource, key, lambda revision: encode(state, revision))
    return await taking.stored(write)


def _exists(call: Call, obj: JsonObject, made: JsonObject) -> errors.StatusError:
    resource, name = call.rt.group_resource, made["metadata"]["name"]
    if obj["metadata"].get("name"):
        return errors.already_exists(resource, name)
    return errors.generated_name_conflict(resource, name)


def _named(core: Core, call: Call, obj: JsonObject) -> JsonObject:
    """Check what the body says about itself against the URL."""
    meta = obj["metadata"]
    if meta.get("resourceVersion"):
        raise errors.unclassified("resourceVersion should not be set on objects to be created")
    return {**obj, "metadata": {**meta, **_namespace(call, meta)}}


def _namespace(call: Call, meta: JsonObject) -> JsonObject:
    if not call.rt.namespaced:
        return {}
    if meta.get("namespace") and meta["namespace"] != call.namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    return {"namespace": call.namespace}


_SYSTEM_FIELDS = frozenset({"deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"})


def _identified(core: Core, call: Call, obj: JsonObject) -> JsonObject:
    """The object with what only the server gives: a name from generateName, uid and creationTimestamp."""
    meta = {key: value for key, value in obj["metadata"].items() if key not in _SYSTEM_FIELDS}
    if not call.rt.namespaced:
        meta.pop("namespace", None)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = generated_name(meta["generateName"], core.environment.choose)
    meta["uid"] = core.environment.uid()
    meta["creationTimestamp"] = core.environment.timestamp()
    return {**obj, "metadata": meta}


# Update


async def update(core: Core, call: Call) -> Reply:
    options = write_options(call.request, "UpdateOptions")
    proposed = read_object(call, options)
    meta = proposed.obj["metadata"]
    if not meta.get("name"):
        raise errors.bad_request(
            f"the name of the object ({call.name} based on URL) was undeterminable: name must be provided"
        )
    if meta["name"] != call.name:
        raise errors.bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({call.name})"
        )
    named = replace(proposed, obj={**proposed.obj, "metadata": {**meta, **_namespace(call, meta)}})
    if core.store.head(call.resource, call.key) is None:
        return await _create_by_update(core, call, named, options)
    return reply(call, await change_object(core, call, lambda _: named, options, expect_uid=meta.get("uid")))


async def _create_by_update(core: Core, call: Call, proposed: Proposed, options: WriteOptions) -> Reply:
    """PUT of what is not there: some kinds are created by it."""
    if not strategy(call.rt).create_on_update or call.route.subresource:
        raise call.not_found()
    if proposed.obj["metadata"].get("uid"):
        raise errors.conflict(
            call.rt.group_resource,
            call.name,
            "StorageError: invalid object, Code: 4, Key: "
            f"{registry_key(call)}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: "
            f"UID in precondition: {proposed.obj['metadata']['uid']}, UID in object meta: ",
        )
    meta = {key: value for key, value in proposed.obj["metadata"].items() if key != "resourceVersion"}
    new = replace(proposed, obj={**proposed.obj, "metadata": meta})
    return reply(call, await create_object(core, call, new, options))


def registry_key(call: Call) -> str:
    """The name that the object would have in etcd: some messages show it."""
    parts = [call.rt.plural] + ([call.namespace] if call.namespace else []) + [call.name]
    return "/registry/" + "/".join(parts)


async def change_object(
    core: Core,
    call: Call,
    change: Change,
    options: WriteOptions,
    *,
    expect_uid: str | None = None,
    seen: Seen | None = None,
) -> Written:
    """Change the object that the call names. Raises StatusError 404, 409, 422."""
    for _ in range(ATTEMPTS):
        stored = call.head()
        old = call.renderer.decoded(stored)
        proposed = change(old)
        if expect_uid and expect_uid != old["metadata"]["uid"]:
            raise errors.conflict(
                call.rt.group_resource,
                call.name,
                f"StorageError: invalid object, Code: 4, Key: {registry_key(call)}, ResourceVersion: "
                f"{old['metadata']['resourceVersion']}, AdditionalErrorMsg: Precondition failed: "
                f"UID in precondition: {expect_uid}, UID in object meta: {old['metadata']['uid']}",
            )
        _check_version(call, old, proposed.obj)
        tried = attempt(call, "UPDATE", options, call.name, old)
        new = await _admitted(core, call, old, proposed, options, tried, seen)
        try:
            with Taking(core.addresses) as taking:
                new = _prepared(core, call, old, new, taking)
                warnings = [*proposed.warnings, *strategy(call.rt).warnings(call.rt, old, new)]
                if seen is None:
                    await core.admission.validate(core, tried, new)
                async with core.admission.holding(core, tried, new):
                    return await _commit(core, call, stored, old, new, options, warnings, taking)
        except RevisionMismatch:
            continue  # a client that has pinned the version is told so when it is looked at again
        except KeyMissing:
            raise call.not_found() from None
    raise errors.conflict(call.rt.group_resource, call.name)


async def change_raw(
    core: Core, call: Call, change: Callable[[JsonObject], JsonObject], options: WriteOptions
) -> Written:
    """Change the object as the server itself does it: no strategy, no validation, no field manager."""
    for _ in range(ATTEMPTS):
        stored = call.head()
        old = call.renderer.decoded(stored)
        try:
            with Taking(core.addresses) as taking:
                return await _commit(core, call, stored, old, change(old), options, [], taking)
        except RevisionMismatch:
            continue
        except KeyMissing:
            raise call.not_found() from None
    raise errors.conflict(call.rt.group_resource, call.name)


def _check_version(call: Call, old: JsonObject, new: JsonObject) -> None:
    """Raises StatusError when the client has pinned another version."""
    version = new["metadata"].get("resourceVersion") or "0"
    if not (version.isascii() and version.isdigit()):
        raise errors.unclassified(f"strconv.ParseUint: parsing {errors.quoted(version)}: invalid syntax")
    if int(version) == 0:
        if not strategy(call.rt).unconditional_update:
            problem = errors.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise errors.invalid(call.rt.group_resource, call.name, [problem])
        return
    if version != old["metadata"]["resourceVersion"]:
        raise errors.conflict(call.rt.group_resource, call.name)


async def _admitted(
    core: Core,
    call: Call,
    old: JsonObject,
    proposed: Proposed,
    options: WriteOptions,
    tried: Attempt,
    seen: Seen | None,
) -> JsonObject:
    rt = call.rt
    meta = carry_over(old["metadata"], proposed.obj["metadata"])
    meta["resourceVersion"] = old["metadata"]["resourceVersion"]
    new = default(rt, {**proposed.obj, "metadata": meta})
    new = _owned(core, call, old, new, proposed, options)
    if seen is None:
        new = await core.admission.admit(core, tried, new)
    else:
        asked = replace(tried, of=seen.of, old=seen.show(old))
        shown = await core.admission.ask(core, asked, seen.show(new))
        new = seen.back(new, shown) if shown is not None else new
    return new


def _prepared(core: Core, call: Call, old: JsonObject, new: JsonObject, taking: Taking) -> JsonObject:
    """Raises StatusError 422."""
    rt, kind, subresource = call.rt, strategy(call.rt), call.route.subresource or ""
    context = core.context(taking)
    new = kind.prepare_update(rt, old, new, subresource, context)
    problems = validate_update(rt, old, new, subresource)
    if problems:
        raise errors.invalid(call.storage.group_kind, call.name, problems)
    return kind.allocate(rt, old, new, context)


async def _commit(
    core: Core,
    call: Call,
    stored: Stored,
    old: JsonObject,
    new: JsonObject,
    options: WriteOptions,
    warnings: list[str],
    taking: Taking,
) -> Written:
    ends = _ends(call, new)
    if options.dry_run:
        return Written(new, None, warnings)
    if ends:
        await taking.stored(remove(core, call.rt, stored, new))
        return Written(new, None, warnings)
    if managed.same_but_times(new, old):
        return Written(old, stored, warnings)
    state = core.to_storage(call.rt, new)
    write = core.store.update(
        call.resource, call.key, stored.revision, lambda revision: encode(state, revision)
    )
    written = await taking.stored(write)
    return Written(new, written, warnings)


def _ends(call: Call, new: JsonObject) -> bool:
    """Whether nothing keeps the object any more, which is being deleted."""
    meta = new["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers"):
        return False
    if call.rt.group_resource == "namespaces":
        return not new.get("spec", {}).get("finalizers")
    return not meta.get("deletionGracePeriodSeconds")
