"""The typed view of the schema: what fields a type has, how lists merge, what an empty field looks like.

    ObjectType   named fields                                    Scalar    string, integer, quantity, time, ...
    ListType     element, list type, map keys, merge strategy    MapType   string keys, one type of value

Types are made from the data file when they are first asked for, and refer to each other lazily, because some are
recursive. They describe; `decode` turns a document into its canonical form by them, `patch` merges by them.
The type of a custom resource hangs on its ResourceType, so that nobody asks where a type is from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from kubesim.schema.data import load
from kubesim.schema.registry import ResourceType
from kubesim.schema.structural import Structure

# What an empty field becomes in the wire form.
OPTIONAL = "o"  # absent unless it was given; a zero that was given stays
PLAIN = "p"  # absent: nobody can tell zero from absent
ZERO = "z"  # written as its zero value
NULL = "n"  # written as null


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts; `any` may be whole documents that the server does not look into."""

    kind: str
    go: str


_SCALARS = {
    "s": Scalar("string", "string"),
    "b": Scalar("boolean", "bool"),
    "i": Scalar("int32", "int32"),
    "l": Scalar("int64", "int64"),
    "d": Scalar("number", "float64"),
    "y": Scalar("bytes", "[]uint8"),
    "q": Scalar("quantity", "resource.Quantity"),
    "o": Scalar("int-or-string", "intstr.IntOrString"),
    "t": Scalar("time", "v1.Time"),
    "u": Scalar("micro-time", "v1.MicroTime"),
    "a": Scalar("any", "interface {}"),
}
STRING = _SCALARS["s"]
BOOLEAN = _SCALARS["b"]
INT32 = _SCALARS["i"]
INT64 = _SCALARS["l"]
NUMBER = _SCALARS["d"]
ANY = _SCALARS["a"]
INT_OR_STRING = _SCALARS["o"]


@dataclass(frozen=True, eq=False)
class ListType:
    """A list; `keys` are the map keys of server-side apply, `merge_key` that of strategic merge."""

    element: Type
    list_type: str = "atomic"
    keys: tuple[str, ...] = ()
    merge: bool = False
    merge_key: str = ""
    retain_keys: bool = False

    @property
    def go(self) -> str:
        return "[]" + go_name(self.element)

    @cached_property
    def key_defaults(self) -> Mapping[str, Any]:
        """Defaults of map keys: `protocol` of a port that does not name one is TCP."""
        if not isinstance(self.element, ObjectType):
            return {}
        fields = self.element.fields
        return {
            key: fields[key].default for key in self.keys if key in fields and fields[key].default is not None
        }


@dataclass(frozen=True, eq=False)
class MapType:
    """String keys; atomic ones are owned as a whole."""

    value: Type
    atomic: bool = False

    @property
    def go(self) -> str:
        return "map[string]" + go_name(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A named member of an object."""

    name: str
    type: Type
    empty: str = OPTIONAL
    required: bool = False
    default: Any = None
    enum: tuple[str, ...] = ()
    go: str = ""
    atomic: bool = False
    retain_keys: bool = False
    replace: bool = False


@dataclass(eq=False)
class ObjectType:
    """Named fields; `preserve` keeps unknown ones (custom resources only)."""

    name: str
    atomic: bool = False
    preserve: bool = False
    embedded: bool = False
    kinds: tuple[tuple[str, str, str], ...] = ()
    required: tuple[str, ...] = ()
    structure: Structure | None = None
    """The structural schema of a custom resource: what is not in it is pruned, mistakes are found by validation."""
    _raw: Mapping[str, Sequence[Any]] = field(default_factory=dict, repr=False)
    _fields: dict[str, Field] | None = field(default=None, repr=False)

    @property
    def short(self) -> str:
        """`Container`."""
        return self.name.rpartition(".")[2]

    @property
    def go(self) -> str:
        """`v1.Container`."""
        return ".".join(self.name.split(".")[-2:])

    @property
    def fields(self) -> dict[str, Field]:
        if self._fields is None:
            self._fields = {name: _field(name, raw, name in self.required) for name, raw in self._raw.items()}
        return self._fields


Type = Scalar | ListType | MapType | ObjectType


def go_name(type_: Type) -> str:
    """The type as Go's decoding errors call it."""
    return type_.go


def object_type(
    name: str, fields: Sequence[Field], *, atomic: bool = False, preserve: bool = False
) -> ObjectType:
    """A type that is not in the data file: of a CRD, or of a test."""
    made = ObjectType(name, atomic=atomic, preserve=preserve)
    made._fields = {one.name: one for one in fields}
    return made


def _field(name: str, raw: Sequence[Any], required: bool) -> Field:
    spec, extra = raw
    strategy = extra.get("s", "")
    type_ = parse_spec(
        spec,
        list_type=extra.get("l", "atomic"),
        keys=tuple(extra.get("k", ())),
        merge="merge" in strategy.split(","),
        merge_key=extra.get("p", ""),
        atomic=extra.get("m") == "atomic",
        retain_keys="retainKeys" in strategy.split(","),
    )
    return Field(
        name=name,
        type=type_,
        empty=extra["e"],
        required=required,
        default=extra.get("d"),
        enum=tuple(extra.get("v", ())),
        go=extra.get("g", ""),
        atomic=extra.get("m") == "atomic",
        retain_keys="retainKeys" in strategy.split(","),
        replace=strategy == "replace",
    )


def parse_spec(
    spec: str,
    *,
    list_type: str = "atomic",
    keys: tuple[str, ...] = (),
    merge: bool = False,
    merge_key: str = "",
    atomic: bool = False,
    retain_keys: bool = False,
) -> Type:
    """The type behind the short text of the data file: `[s` is a list of strings, `{@12` a map of type 12."""
    head, rest = spec[0], spec[1:]
    if head == "[":
        element = parse_spec(rest)
        return ListType(element, list_type, keys, merge, merge_key, retain_keys)
    if head == "{":
        return MapType(parse_spec(rest), atomic)
    if head == "@":
        return _numbered()[int(rest)] if rest else _EMPTY
    return _SCALARS[head]


_EMPTY = ObjectType("io.k8s.apimachinery.pkg.Empty")


@cache
def _numbered() -> list[ObjectType]:
    return [
        ObjectType(
            entry["n"],
            atomic=entry.get("m") == "atomic",
            kinds=tuple((group, version, kind) for group, version, kind in entry.get("g", ())),
            required=tuple(entry.get("r", ())),
            _raw=entry["f"],
        )
        for entry in load("types")
    ]


@cache
def _by_name() -> dict[str, ObjectType]:
    return {type_.name: type_ for type_ in _numbered()}


@cache
def _by_kind() -> dict[tuple[str, str, str], ObjectType]:
    return {kind: type_ for type_ in _numbered() for kind in type_.kinds}


def named(name: str) -> ObjectType:
    """A type by the end of its name: `core.v1.Container`, `meta.v1.ObjectMeta`."""
    for full, type_ in _by_name().items():
        if full.endswith("." + name):
            return type_
    raise KeyError(name)


def object_meta() -> ObjectType:
    return _by_name()["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]


def kind_type(group: str, version: str, kind: str) -> ObjectType | None:
    """The type of a built-in kind; None where nobody described it (the options of exec and proxy)."""
    return _by_kind().get((group, version, kind))


def type_of(rt: ResourceType) -> ObjectType:
    """The type of a resource's objects."""
    found = rt.schema or kind_type(rt.group, rt.version, rt.kind)
    if found is None:
        raise KeyError(f"{rt.kind} of {rt.api_version} has no schema")
    return found
