"""CEL rules of custom resources: what is refused with the definition, and what objects are told."""

from __future__ import annotations

from typing import Any

from kubesim.schema.structural_cel import broken_rules, compile_error
from kubesim.schema.structural_rules import ABSENT


def with_rule(rule: str, **members: Any) -> dict[str, Any]:
    spec = {
        "type": "object",
        "properties": {"min": {"type": "integer"}, "when": {"type": "string", "format": "date-time"}},
        "x-kubernetes-validations": [{"rule": rule, **members}],
    }
    return {"type": "object", "properties": {"spec": spec}}


def broken(schema: dict[str, Any], spec: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    before = ABSENT if old is None else {"spec": old}
    return [str(one) for one in broken_rules(schema, {"spec": spec}, before, [])]


def test_a_broken_rule_says_its_message_or_itself() -> None:
    assert broken(with_rule("self.min > 1"), {"min": 2}) == []
    assert broken(with_rule("self.min > 1"), {"min": 1}) == ["spec: Invalid value: failed rule: self.min > 1"]
    told = with_rule("self.min > 1", messageExpression="'is ' + string(self.min)", fieldPath=".min")
    assert broken(told, {"min": 1}) == ["spec.min: Invalid value: is 1"]


def test_a_rule_about_a_change_needs_something_to_compare_with() -> None:
    schema = with_rule("self.min >= oldSelf.min", reason="FieldValueForbidden", message="no way back")
    assert broken(schema, {"min": 1}) == []
    assert broken(schema, {"min": 1}, {"min": 2}) == ["spec: Forbidden: no way back"]
    assert broken(schema, {"min": 2}, {"min": 2}) == []


def test_times_are_times_and_missing_fields_are_mistakes() -> None:
    schema = with_rule("self.when > timestamp('2020-01-01T00:00:00Z')")
    assert broken(schema, {"when": "2021-01-01T00:00:00Z"}) == []
    assert broken(schema, {"min": 1}) == [
        'spec: Invalid value: "object": no such key: when evaluating rule: '
        "self.when > timestamp('2020-01-01T00:00:00Z')"
    ]


def test_what_the_language_does_not_have_is_refused_by_name() -> None:
    assert "undeclared reference to 'frobnicate'" in compile_error("self.frobnicate()", {"type": "object"})
    assert "undeclared reference to 'frobnicate'" in compile_error("frobnicate(self)", {"type": "object"})


def test_rules_are_checked_for_their_types() -> None:
    schema = with_rule("true")["properties"]["spec"]
    assert "no matching overload for '_>_' applied to '(int, string)'" in compile_error(
        "self.min > 'a'", schema
    )
    assert compile_error("self.min", schema) == "cel expression must evaluate to a bool"
    assert compile_error("self.?min.orValue(1) == 1", schema) == ""


def test_a_rule_that_cannot_be_right_is_refused() -> None:
    schema = with_rule("true")["properties"]["spec"]
    assert "undefined field 'none'" in compile_error("self.none > 1", schema)
    assert compile_error("self.min >", schema).startswith("compilation failed: ERROR: <input>:1:")
    assert compile_error("self.min > 1 && 'self.none' != ''", schema) == ""
