"""From a tree to closures that compute it.

Every loop and call is paid for from a budget, so that no expression holds the event loop for long. What fails raises
CelError, except where `&&`, `||`, `all` and `exists` are decided without it, in whatever order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubesim.schema.cel import tree
from kubesim.schema.cel.functions import is_function, overload
from kubesim.schema.cel.tree import Node, dotted
from kubesim.schema.cel.values import (
    NAMES,
    NONE,
    Budget,
    CelError,
    Instance,
    Opaque,
    Optional,
    Type,
    UInt,
    code,
    equal,
    some,
)

Env = dict[str, Any]
Step = Callable[[Env], Any]

_BUDGET = ""
"""Under this name, which no variable can have, an environment keeps its budget."""
NO_OVERLOAD = "no such overload"
TYPES = frozenset(
    (
        *(name for name in NAMES.values() if "." not in name),
        *("google.protobuf.Timestamp", "google.protobuf.Duration", "optional_type"),
        *("kubernetes.URL", "kubernetes.Quantity", "net.IP", "net.CIDR", "kubernetes.Semver"),
    )
)


@dataclass(frozen=True, slots=True)
class Program:
    """An expression that can be evaluated any number of times."""

    source: str
    step: Step = field(repr=False)
    names: frozenset[str]
    """The variables that it mentions."""
    result: str
    """The letter of the type that it is known to have, `*` where that is known only when it runs."""

    def run(self, variables: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """Raises CelError."""
        budget = budget or Budget()
        env: Env = {**variables, _BUDGET: budget}
        try:
            with budget.running():
                return self.step(env)
        except RecursionError:
            raise CelError("expression recursion limit exceeded") from None


def program(source: str, node: Node, result: str) -> Program:
    return Program(source, _step(node, frozenset()), frozenset(free_names(node)), result)


def free_names(node: Node, bound: frozenset[str] = frozenset()) -> Iterator[str]:
    """The names that are not bound by a macro."""
    if isinstance(node, tree.Name):
        if node.name not in bound:
            yield node.name
        return
    if isinstance(node, tree.Loop):
        yield from free_names(node.over, bound)
        inner = bound | set(node.names)
        for one in (node.only, node.body):
            if one is not None:
                yield from free_names(one, inner)
        return
    if isinstance(node, tree.Bind):
        yield from free_names(node.value, bound)
        yield from free_names(node.body, bound | {node.name})
        return
    for child in children(node):
        yield from free_names(child, bound)


def children(node: Node) -> Iterator[Node]:
    match node:
        case tree.Select() | tree.Has():
            yield node.of
        case tree.Index():
            yield from (node.of, node.key)
        case tree.Call():
            if node.of is not None:
                yield node.of
            yield from node.args
        case tree.Both() | tree.Either():
            yield from (node.left, node.right)
        case tree.Choice():
            yield from (node.condition, node.yes, node.no)
        case tree.ListOf():
            yield from (item for item, _ in node.items)
        case tree.MapOf():
            for key, value, _ in node.items:
                yield from (key, value)
        case tree.Made():
            yield from (value for _, value, _ in node.fields)


def namespaced(node: tree.Call) -> str:
    """The whole name of a function such as `math.greatest`, if this is a call of one."""
    if node.of is None:
        return ""
    path = dotted(node.of)
    name = f"{path}.{node.name}" if path else ""
    return name if name and is_function(name, member=False) else ""


def _step(node: Node, bound: frozenset[str]) -> Step:
    match node:
        case tree.Literal():
            return _literal(node)
        case tree.Name():
            return _name(node, bound)
        case tree.Select():
            return _select(node, bound)
        case tree.Has():
            of, name = _step(node.of, bound), node.field
            return lambda env: _has(of(env), name)
        case tree.Index():
            of, key, optional = _step(node.of, bound), _step(node.key, bound), node.optional
            return lambda env: _index(of(env), key(env), optional)
        case tree.Call():
            return _call(node, bound)
        case tree.Both():
            return _logic(node.left, node.right, bound, decides=False)
        case tree.Either():
            return _logic(node.left, node.right, bound, decides=True)
        case tree.Choice():
            return _choice(node, bound)
        case tree.ListOf():
            return _list(node, bound)
        case tree.MapOf():
            return _map(node, bound)
        case tree.Made():
            return _made(node, bound)
        case tree.Loop():
            return _LOOPS[node.macro](node, bound)
        case tree.Bind():
            return _bind(node, bound)
    raise AssertionError(node)


def _literal(node: tree.Literal) -> Step:
    value = node.value
    if node.unsigned:
        value = UInt(value)
    return lambda env: value


def _name(node: tree.Name, bound: frozenset[str]) -> Step:
    name = node.name
    type_ = Type(name) if name in TYPES and name not in bound else None

    def get(env: Env) -> Any:
        try:
            return env[name]
        except KeyError:
            if type_ is not None:
                return type_
            raise CelError(f"no such attribute(s): {name}") from None

    return get


def _select(node: tree.Select, bound: frozenset[str]) -> Step:
    path = dotted(node)
    if path in TYPES and path.partition(".")[0] not in bound:
        value = Type(path)
        return lambda env: value
    of, name, optional = _step(node.of, bound), node.field, node.optional

    def select(env: Env) -> Any:
        target = of(env)
        if optional or isinstance(target, Optional):
            return _maybe(target, name)
        if isinstance(target, Opaque):
            return target.member(name)
        if not isinstance(target, dict):
            raise CelError(NO_OVERLOAD)
        try:
            return target[name]
        except KeyError:
            raise CelError(f"no such key: {name}") from None

    return select


def _maybe(target: Any, key: Any) -> Optional:
    """`target.?key`, `target[?key]`."""
    if isinstance(target, Optional):
        if not target.there:
            return NONE
        target = target.value
    if isinstance(target, dict):
        return some(target[key]) if _hashable(key) and key in target else NONE
    if isinstance(target, list) and isinstance(key, int) and not isinstance(key, bool):
        return some(target[key]) if 0 <= key < len(target) else NONE
    if target is None:
        return NONE
    raise CelError(NO_OVERLOAD)


def _hashable(key: Any) -> bool:
    return not isinstance(key, list | dict)


def _has(target: Any, name: str) -> bool:
    if isinstance(target, Optional):
        return target.there and _has(target.value, name)
    if not isinstance(target, dict):
        raise CelError(NO_OVERLOAD)
    return name in target


def _index(target: Any, key: Any, optional: bool) -> Any:
    if optional or isinstance(target, Optional):
        return _maybe(target, key)
    if isinstance(target, dict):
        try:
            return target[key]
        except (KeyError, TypeError):  # no list and no map is a key
            raise CelError(f"no such key: {key}") from None
    if not isinstance(target, list):
        raise CelError(NO_OVERLOAD)
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    if not isinstance(key, int) or isinstance(key, bool):
        raise CelError(f"unsupported index type '{NAMES.get(code(key), 'dyn')}' in list")
    if not 0 <= key < len(target):
        raise CelError(f"index out of bounds: {key}")
    return target[key]


def _call(node: tree.Call, bound: frozenset[str]) -> Step:
    whole = namespaced(node)
    if whole and dotted(node.of).partition(".")[0] in bound if node.of is not None else False:
        whole = ""
    receiver = [node.of] if node.of is not None and not whole else []
    name = whole or node.name
    steps = [_step(one, bound) for one in (*receiver, *node.args)]
    member = bool(receiver)
    if name in ("_==_", "_!=_"):
        left, right = steps
        return (
            (lambda env: equal(left(env), right(env)))
            if name == "_==_"
            else (lambda env: not equal(left(env), right(env)))
        )

    def call(env: Env) -> Any:
        args = [one(env) for one in steps]
        found = overload(name, member, "".join(map(code, args)))
        if found is None:
            raise CelError(NO_OVERLOAD)
        budget = env[_BUDGET]
        budget.spend(_cost(args))
        try:
            made = found(*args)
        except _BEYOND_PYTHON as wrong:
            raise CelError(str(wrong)) from None
        if type(made) in _SIZED:
            budget.spend(_cost([made]))
        return made

    return call


_BEYOND_PYTHON = (ValueError, ArithmeticError, OSError)
"""What Python says of numbers and times that it cannot have: a year 0, 5,000 digits."""
_SIZED = (str, bytes, list)


def _cost(args: list[Any]) -> int:
    """Strings and lists cost what their size makes of them."""
    return 1 + sum(len(one) // 10 for one in args if isinstance(one, str | list | bytes))


def _truth(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise CelError(NO_OVERLOAD)


def _logic(left: Node, right: Node, bound: frozenset[str], *, decides: bool) -> Step:
    """`&&` and `||`: the value that decides beats an error on the other side."""
    first, second = _step(left, bound), _step(right, bound)

    def logic(env: Env) -> bool:
        try:
            if _truth(first(env)) is decides:
                return decides
        except CelError as wrong:
            if _truth(second(env)) is decides:
                return decides
            raise wrong from None
        return _truth(second(env))

    return logic


def _choice(node: tree.Choice, bound: frozenset[str]) -> Step:
    condition, yes, no = (_step(one, bound) for one in (node.condition, node.yes, node.no))
    return lambda env: yes(env) if _truth(condition(env)) else no(env)


def _given(value: Any, optional: bool) -> Iterator[Any]:
    """The value, or what is in it: `[?x]`."""
    if not optional:
        yield value
    elif not isinstance(value, Optional):
        raise CelError(NO_OVERLOAD)
    elif value.there:
        yield value.value


def _list(node: tree.ListOf, bound: frozenset[str]) -> Step:
    steps = [(_step(item, bound), optional) for item, optional in node.items]
    return lambda env: [one for step, optional in steps for one in _given(step(env), optional)]


def _key(key: Any) -> Any:
    if code(key) not in "bisu":
        raise CelError(f"unsupported key type: {NAMES.get(code(key), 'dyn')}")
    return key


def _map(node: tree.MapOf, bound: frozenset[str]) -> Step:
    steps = [(_step(key, bound), _step(value, bound), optional) for key, value, optional in node.items]

    def make(env: Env) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key, value, optional in steps:
            name = _key(key(env))
            for one in _given(value(env), optional):
                if name in made:
                    raise CelError(f"Failed with repeated key {name}")
                made[name] = one
        return made

    return make


def _made(node: tree.Made, bound: frozenset[str]) -> Step:
    steps = [(name, _step(value, bound), optional) for name, value, optional in node.fields]

    def make(env: Env) -> Instance:
        fields = {name: one for name, step, optional in steps for one in _given(step(env), optional)}
        return Instance(node.type, fields)

    return make


def _bind(node: tree.Bind, bound: frozenset[str]) -> Step:
    value, body, name, macro = (
        _step(node.value, bound),
        _step(node.body, bound | {node.name}),
        node.name,
        node.macro,
    )

    def bind(env: Env) -> Any:
        found = value(env)
        if macro == "bind":
            return body({**env, name: found})
        if not isinstance(found, Optional):
            raise CelError(NO_OVERLOAD)
        if not found.there:
            return NONE
        made = body({**env, name: found.value})
        return some(made) if macro == "optMap" else made

    return bind


# Loops


def _rounds(node: tree.Loop, over: Any, env: Env) -> Iterator[tuple[Any, Env]]:
    """The key of each member, and the environment in which the body sees it; one environment, refilled."""
    inner = dict(env)
    names, budget = node.names, env[_BUDGET]
    if isinstance(over, dict):
        pairs: Iterator[tuple[Any, Any]] = iter(list(over.items()))
    elif isinstance(over, list):
        pairs = iter(enumerate(over))
    else:
        raise CelError(NO_OVERLOAD)
    for key, value in pairs:
        budget.spend()
        if len(names) == 2:
            inner[names[0]], inner[names[1]] = key, value
        else:
            inner[names[0]] = key if isinstance(over, dict) else value
        yield key, inner


def _quantified(decides: bool) -> Callable[[tree.Loop, frozenset[str]], Step]:
    def make(node: tree.Loop, bound: frozenset[str]) -> Step:
        over, body = _step(node.over, bound), _step(node.body, bound | set(node.names))

        def run(env: Env) -> bool:
            failed: CelError | None = None
            for _, inner in _rounds(node, over(env), env):
                try:
                    if _truth(body(inner)) is decides:
                        return decides
                except CelError as wrong:
                    failed = failed or wrong
            if failed is not None:
                raise failed
            return not decides

        return run

    return make


def _exists_one(node: tree.Loop, bound: frozenset[str]) -> Step:
    over, body = _step(node.over, bound), _step(node.body, bound | set(node.names))
    return lambda env: sum(_truth(body(inner)) for _, inner in _rounds(node, over(env), env)) == 1


def _kept(node: tree.Loop, bound: frozenset[str]) -> Step:
    over, body, name = _step(node.over, bound), _step(node.body, bound | set(node.names)), node.names[0]
    return lambda env: [inner[name] for _, inner in _rounds(node, over(env), env) if _truth(body(inner))]


def _transformed(node: tree.Loop, bound: frozenset[str]) -> Step:
    """map, transformList, transformMap and transformMapEntry."""
    within = bound | set(node.names)
    over, body = _step(node.over, bound), _step(node.body, within)
    only = _step(node.only, within) if node.only is not None else None

    def pairs(env: Env) -> Iterator[tuple[Any, Any]]:
        for key, inner in _rounds(node, over(env), env):
            if only is None or _truth(only(inner)):
                yield key, body(inner)

    def entries(env: Env) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for _, entry in pairs(env):
            if not isinstance(entry, dict):
                raise CelError(NO_OVERLOAD)
            for key, value in entry.items():
                if key in made:
                    raise CelError(f"insert failed: key {key} already exists")
                made[key] = value
        return made

    if node.macro == "transformMap":
        return lambda env: dict(pairs(env))
    if node.macro == "transformMapEntry":
        return entries
    return lambda env: [value for _, value in pairs(env)]


_LOOPS: dict[str, Callable[[tree.Loop, frozenset[str]], Step]] = {
    "all": _quantified(False),
    "exists": _quantified(True),
    "exists_one": _exists_one,
    "filter": _kept,
    "map": _transformed,
    "transformList": _transformed,
    "transformMap": _transformed,
    "transformMapEntry": _transformed,
}
