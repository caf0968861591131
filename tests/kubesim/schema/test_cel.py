"""The Common Expression Language: what expressions are, what they are not, and what is said about it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kubesim.schema.cel import (
    BOOL,
    DYN,
    STRING,
    Budget,
    CelError,
    CelSyntax,
    Kind,
    compile_,
    makes,
    object_of,
)
from kubesim.schema.cel.libraries import Authorizer, Decision
from kubesim.schema.expressions import InvalidExpression, matches

VARIABLES = {"self": DYN, "who": Kind("A")}
SELF = {"x": 1, "d": 1.5, "m": {"a": 1, "b": 2}, "l": [3, 1, 2], "s": "Hello", "n": None, "e": []}


def value(expression: str, **more: Any) -> Any:
    return compile_(expression, VARIABLES).run({"self": SELF, **more})


def refused(expression: str, variables: dict[str, Kind] | None = None) -> str:
    with pytest.raises(CelSyntax) as caught:
        compile_(expression, variables or VARIABLES)
    return str(caught.value)


TRUE = Path(__file__).with_name("cel_cases.txt").read_text().splitlines()[1:]


@pytest.mark.parametrize("expression", [*TRUE, "// a comment\n1 == 1"])
def test_what_is_so(expression: str) -> None:
    assert value(expression) is True


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("self.none", "no such key: none"),
        ("self.m['z'] == 1", "no such key: z"),
        ("self.l[7]", "index out of bounds: 7"),
        ("self.x + self.s", "no such overload"),
        ("self.s > self.x", "no such overload"),
        ("self.n.field", "no such overload"),
        ("self.x / 0", "division by zero"),
        ("self.x % 0", "modulus by zero"),
        ("9223372036854775807 + self.x", "integer overflow"),
        ("int(self.s)", 'strconv.ParseInt: parsing "Hello": invalid syntax'),
        ("self.?none.value()", "optional.none() dereference"),
        ("self.e.min()", "min called on empty list"),
        ("self.l.all(one, one / 0 == 1)", "division by zero"),
        ("{'a': 1, 'a': 2}", "Failed with repeated key a"),
        ("timestamp('yesterday')", 'parsing time "yesterday"'),
        ("duration('soon')", 'time: invalid duration "soon"'),
        ("quantity('many')", "quantities must match the regular expression"),
        ("self.s.matches('[')", "error parsing regexp"),
        ("self.x ? 1 : 2", "no such overload"),
    ],
)
def test_what_has_no_value_says_why(expression: str, message: str) -> None:
    with pytest.raises(CelError) as caught:
        value(expression)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("nobody", "ERROR: <input>:1:1: undeclared reference to 'nobody' (in container '')\n | nobody\n | ^"),
        (
            "self.x == 1 &&\n  other",
            "ERROR: <input>:2:3: undeclared reference to 'other' (in container '')\n |   other\n | ..^",
        ),
        ("self.frobnicate()", "undeclared reference to 'frobnicate' (in container '')"),
        ("1 + 'a'", "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'"),
        ("'a' == 1", "found no matching overload for '_==_' applied to '(string, int)'"),
        ("'a'.charAt('b')", "found no matching overload for 'charAt' applied to 'string.(string)'"),
        ("[1].all(one, one)", "expected type 'bool' but found 'int'"),
        ("(1).all(one, true)", "expression of type 'int' cannot be range of a comprehension"),
        (
            "self.x >",
            "ERROR: <input>:1:9: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.',",
        ),
        ("(self.x", "Syntax error: missing ')' at '<EOF>'"),
        ("self.x self.y", "Syntax error: mismatched input 'self' expecting <EOF>"),
        ("self.x # 1", "Syntax error: token recognition error at: '#'"),
        ("package", "reserved identifier: package"),
        ("has(self)", "invalid argument to has() macro"),
        ("Object{a: 1}", "undeclared reference to 'Object' (in container '')"),
        ("1" * 20, "invalid int literal"),
        ("(" * 60 + "1" + ")" * 60, "expression recursion limit exceeded"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_place(expression: str, message: str) -> None:
    assert message in refused(expression)


def test_fields_that_a_type_does_not_have_are_found_before_anything_runs() -> None:
    kind = object_of("spec", {"name": STRING, "done": BOOL})
    message = "ERROR: <input>:1:5: undefined field 'nme'\n | self.nme == 'a'\n | ....^"
    assert refused("self.nme == 'a'", {"self": kind}) == message
    assert "applied to '(string, int)'" in refused("self.name == 1", {"self": kind})
    assert compile_("self.done", {"self": kind}).result == "b"


def test_objects_are_made_where_that_is_allowed() -> None:
    program = compile_("Object{spec: Object.spec{replicas: 2, ?name: optional.none()}}", makes("Object"))
    assert program.run({}) == {"spec": {"replicas": 2}}


def test_what_would_take_too_long_is_ended() -> None:
    program = compile_("lists.range(2000).all(a, lists.range(2000).all(b, a + b >= 0))", {})
    with pytest.raises(CelError, match="actual cost limit exceeded"):
        program.run({}, Budget(10_000))
    with pytest.raises(CelError, match="actual cost limit exceeded"):
        compile_("lists.range(100000000).size() == 1", {}).run({})


def test_what_is_nested_too_deep_is_refused() -> None:
    assert "recursion limit exceeded" in refused(" && ".join(["true"] * 1200))


def test_the_authorizer_is_asked_with_all_that_was_said() -> None:
    asked: list[Any] = []

    def decide(what: Any) -> Decision:
        asked.append(dict(what))
        return Decision(what.get("verb") == "get", "because")

    who = Authorizer(decide)
    chain = (
        "who.group('apps').resource('deployments').subresource('scale').namespace('n').name('d').check('get')"
    )
    assert value(f"{chain}.allowed() && {chain}.reason() == 'because'", who=who)
    assert value("!who.path('/healthz').check('post').allowed()", who=who)
    assert value("!who.serviceAccount('a', 'b').group('').resource('pods').check('list').allowed()", who=who)
    assert asked[0] == {
        "verb": "get",
        "group": "apps",
        "resource": "deployments",
        "subresource": "scale",
        "namespace": "n",
        "name": "d",
        "account": "",
    }
    assert asked[-1]["account"] == "system:serviceaccount:a:b"


def test_times_are_given_in_their_own_type() -> None:
    program = compile_("self.when.getFullYear() == 2024", VARIABLES)
    assert program.run({"self": {"when": datetime(2024, 5, 1, tzinfo=UTC)}})


HOSTILE = [
    "lists.range(100000).map(x, lists.range(100000)).size() > 0",
    "lists.range(20000).distinct().size() > 0",
    "sets.equivalent(lists.range(10000), lists.range(10000))",
    "cel.bind(l, lists.range(30000), cel.bind(m, lists.range(30000), l.all(a, l == m)))",
    "cel.bind(l, lists.range(30000), l.all(a, l.all(b, a == b || -1 in l || true)))",
    '["x"]' + ".map(x, [x, x].join('x'))" * 60,
    f'cel.bind(s, "{"a" * 5000}", lists.range(30000).map(a, s.findAll("a(?:.*b)?")).size() > 0)',
]


@pytest.mark.parametrize("expression", HOSTILE, ids=range(len(HOSTILE)))
def test_no_expression_holds_the_processor_for_long(expression: str) -> None:
    started = time.thread_time()
    with pytest.raises(CelError, match="cost limit exceeded"):
        compile_(expression, VARIABLES).run({"self": SELF}, Budget(10_000_000))
    assert time.thread_time() - started < 0.5  # the limit is 0.1; one step may be under way


def test_values_that_contain_themselves_many_times_are_not_compared_for_ever() -> None:
    twice: Any = [1]
    for _ in range(40):
        twice = [twice, twice]
    other: Any = [1]
    for _ in range(40):
        other = [other, other]
    with pytest.raises(CelError, match="cost limit exceeded"):
        compile_("self.a == self.b", VARIABLES).run({"self": {"a": twice, "b": other}})
    with pytest.raises(CelError, match="cost limit exceeded"):
        compile_("'%s'.format([self.a]) == ''", VARIABLES).run({"self": {"a": twice}})


def test_the_time_of_a_budget_is_shared_by_its_expressions_and_stands_still_between_them() -> None:
    budget = Budget(10_000_000, seconds=0.05)
    program = compile_("lists.range(1000).all(x, x >= 0)", VARIABLES)
    until = time.thread_time() + 0.1
    while time.thread_time() < until:  # work of others
        pass
    assert program.run({"self": SELF}, budget) is True
    many = compile_("lists.range(100000).all(x, x >= 0)", VARIABLES)
    with pytest.raises(CelError, match="cost limit exceeded"):
        many.run({"self": SELF}, budget)
    with pytest.raises(CelError, match="cost limit exceeded"):
        program.run({"self": SELF}, budget)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|aa)+$", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*a){12}$"])
def test_a_pattern_that_would_try_for_years_takes_no_time(pattern: str) -> None:
    text = "a" * 5000 + "!"
    started = time.thread_time()
    assert compile_("self.t.matches(self.p)", VARIABLES).run({"self": {"t": text, "p": pattern}}) is False
    assert matches(pattern, text) is False
    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "missing closing ): `(`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
    ],
)
def test_what_is_no_regular_expression_is_said_as_go_says_it(pattern: str, why: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        matches(pattern, "")
    assert str(caught.value) == f"error parsing regexp: {why}"


@pytest.mark.parametrize(
    "expression",
    [
        f'int("{"9" * 5000}") > 0',
        "timestamp(99999999999999999) > timestamp(0)",
        'timestamp("0001-01-01T00:00:00Z").getFullYear("America/New_York") == 1',
        'timestamp("2020-01-01T00:00:00Z").getFullYear("99:99") == 1',
        'string(timestamp("0001-01-01T00:00:00+14:00")) == ""',
        f'semver("1.2.{"9" * 5000}").major() == 1',
        'base64.decode("é") == b""',
        "self.m[self.l] == 1",
    ],
)
def test_what_python_cannot_have_has_no_value_and_breaks_nothing(expression: str) -> None:
    with pytest.raises(CelError):
        value(expression)


def test_lists_and_maps_are_keys_of_nothing() -> None:
    assert value("self.l in self.m") is False
    assert value("self.m[?self.l].hasValue()") is False
