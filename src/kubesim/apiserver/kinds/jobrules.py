"""What the policies of a Job may say, and what its status may say about it: rules in the real server's words."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from kubesim.apiserver.kinds.base import not_negative
from kubesim.errors import (
    OMITTED,
    FieldError,
    JsonObject,
    duplicate,
    invalid_value,
    not_supported,
    quoted,
    required,
    too_many,
)
from kubesim.schema.meta import qualified_name

_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_OPERATORS = ("In", "NotIn")
_STATUSES = ("False", "True", "Unknown")
_MOST_RULES, _MOST_VALUES = 20, 255


def _quoted_list(values: tuple[str, ...]) -> str:
    """Strings as Go's %q writes a list of them."""
    return "[" + " ".join(quoted(one) for one in values) + "]"


def failure_policy(spec: JsonObject, path: str) -> Iterator[FieldError]:
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    if len(rules) > _MOST_RULES:
        yield too_many(f"{path}.rules", len(rules), _MOST_RULES)
    pod = spec["template"]["spec"]
    names = {one["name"] for kind in ("containers", "initContainers") for one in pod.get(kind) or ()}
    for at, rule in enumerate(rules):
        yield from _failure_rule(spec, rule, f"{path}.rules[{at}]", names)


def _failure_rule(spec: JsonObject, rule: JsonObject, path: str, names: set[str]) -> Iterator[FieldError]:
    action, codes, conditions = rule.get("action", ""), rule.get("onExitCodes"), rule.get("onPodConditions")
    if not action:
        yield required(f"{path}.action", f"valid values: {_quoted_list(_ACTIONS)}")
    elif action == "FailIndex" and spec.get("backoffLimitPerIndex") is None:
        yield invalid_value(f"{path}.action", action, "requires the backoffLimitPerIndex to be set")
    elif action not in _ACTIONS:
        yield not_supported(f"{path}.action", action, _ACTIONS)
    if codes is not None:
        yield from _exit_codes(codes, f"{path}.onExitCodes", names)
    for at, one in enumerate(conditions or ()):
        yield from _condition(one, f"{path}.onPodConditions[{at}]")
    if codes is not None and conditions:
        why = "specifying both OnExitCodes and OnPodConditions is not supported"
        yield invalid_value(path, OMITTED, why)
    if codes is None and not conditions:
        yield invalid_value(path, OMITTED, "specifying one of OnExitCodes and OnPodConditions is required")


def _condition(one: JsonObject, path: str) -> Iterator[FieldError]:
    status = one.get("status", "")
    yield from (invalid_value(f"{path}.type", one["type"], why) for why in qualified_name(one["type"]))
    if not status:
        yield required(f"{path}.status", f"valid values: {_quoted_list(_STATUSES)}")
    elif status not in _STATUSES:
        yield not_supported(f"{path}.status", status, _STATUSES)


def _exit_codes(codes: JsonObject, path: str, names: set[str]) -> Iterator[FieldError]:
    operator, values = codes.get("operator", ""), codes.get("values") or []
    if not operator:
        yield required(f"{path}.operator", f"valid values: {_quoted_list(_OPERATORS)}")
    elif operator not in _OPERATORS:
        yield not_supported(f"{path}.operator", operator, _OPERATORS)
    name = codes.get("containerName")
    if name is not None and name not in names:
        why = "must be one of the container or initContainer names in the pod template"
        yield invalid_value(f"{path}.containerName", name, why)
    if not values:
        yield invalid_value(f"{path}.values", codes.get("values"), "at least one value is required")
    elif len(values) > _MOST_VALUES:
        yield too_many(f"{path}.values", len(values), _MOST_VALUES)
    for at, value in enumerate(values):
        if operator == "In" and value == 0:
            yield invalid_value(f"{path}.values[{at}]", value, "must not be 0 for the In operator")
        if value in values[:at]:
            yield duplicate(f"{path}.values[{at}]", value)
    if any(one > other for one, other in pairwise(values)):
        yield invalid_value(f"{path}.values", values, "must be ordered")


def success_policy(spec: JsonObject, path: str) -> Iterator[FieldError]:
    policy = spec["successPolicy"]
    if spec.get("completionMode") != "Indexed":
        yield invalid_value(path, policy, "requires indexed completion mode")
        return
    rules = policy.get("rules") or []
    if not rules:
        why = "at least one rules must be specified when the successPolicy is specified"
        yield required(f"{path}.rules", why)
    if len(rules) > _MOST_RULES:
        yield too_many(f"{path}.rules", len(rules), _MOST_RULES)
    for at, rule in enumerate(rules):
        yield from _success_rule(rule, spec.get("completions") or 0, f"{path}.rules[{at}]")


def _success_rule(rule: JsonObject, completions: int, path: str) -> Iterator[FieldError]:
    count, indexes, total = rule.get("succeededCount"), rule.get("succeededIndexes"), 0
    if count is None and indexes is None:
        yield required(path, "at least one of succeededCount or succeededIndexes must be specified")
    if indexes is not None:
        try:
            total = counted(indexes, completions)
        except ValueError as wrong:
            why = f"error parsing succeededIndexes: {wrong}"
            yield invalid_value(f"{path}.succeededIndexes", indexes, why)
    if count is None:
        return
    where, most = f"{path}.succeededCount", "must be less than or equal to"
    yield from not_negative(count, where)
    if count > completions:
        yield invalid_value(where, count, f"{most} {completions} (the number of specified completions)")
    if indexes is not None and count > total:
        why = f"{most} {total} (the number of indexes in the specified succeededIndexes field)"
        yield invalid_value(where, count, why)


def counted(text: str, completions: int) -> int:
    """How many indexes a list such as `1,3-5` names; a ValueError says what is wrong with it."""
    total, last = 0, None
    for part in text.split(",") if text else ():
        first, final = _interval(part, completions)
        if last is not None and last >= first:
            raise ValueError(f"non-increasing order, previous: {last}, current: {first}")
        total += final - first + 1
        last = final
    return total


def _interval(text: str, completions: int) -> tuple[int, int]:
    limits = text.split("-")
    if len(limits) > 2:
        why = "violates the requirement that an index interval can have at most two parts separated by '-'"
        raise ValueError(f"the fragment {quoted(text)} {why}")
    numbers: list[int] = []
    for one in limits:
        if not one.removeprefix("+").isdigit():
            raise ValueError(f"cannot convert string to integer for index: {quoted(one)}")
        if int(one) >= completions:
            raise ValueError(f"too large index: {quoted(one)}")
        numbers.append(int(one))
    if len(numbers) == 2 and numbers[0] >= numbers[1]:
        raise ValueError(f"non-increasing order, previous: {numbers[0]}, current: {numbers[1]}")
    return numbers[0], numbers[-1]


_COUNTERS = ("active", "succeeded", "failed", "ready", "terminating")


def status_errors(old: JsonObject, new: JsonObject) -> list[FieldError]:
    """A Job that has ended stays so, and nobody says that it has without saying how."""
    before, after, path = old.get("status") or {}, new.get("status") or {}, "status"
    was, now = _true(before), _true(after)
    found = [error for key in _COUNTERS for error in not_negative(after.get(key), f"{path}.{key}")]
    found += [invalid_value(f"{path}.conditions", OMITTED, why) for why in _contradictions(was, now)]
    ended = bool(now & {"Complete", "Failed"})
    if ended and not after.get("startTime"):
        found.append(required(f"{path}.startTime", "startTime is required for finished job"))
    if ended and after.get("active", 0) > 0 and not was & {"Complete", "Failed"}:
        why = "active>0 is invalid for finished job"
        found.append(invalid_value(f"{path}.active", after["active"], why))
    found += _completion(before, after, now)
    for key in ("failed", "succeeded"):
        if after.get(key, 0) < before.get(key, 0):
            why = f"cannot decrease the {key} counter"
            found.append(invalid_value(f"{path}.{key}", after.get(key, 0), why))
    return found


def _true(status: JsonObject) -> set[str]:
    return {one["type"] for one in status.get("conditions") or () if one.get("status") == "True"}


def _contradictions(was: set[str], now: set[str]) -> Iterator[str]:
    if {"Complete", "Failed"} <= now:
        yield "cannot set Complete=True and Failed=true conditions"
    if {"Complete", "FailureTarget"} <= now:
        yield "cannot set Complete=True and FailureTarget=true conditions"
    if "Failed" in now - was and "FailureTarget" not in now:
        yield "cannot set Failed=True condition without the FailureTarget=true condition"
    if "Complete" in now - was and "SuccessCriteriaMet" not in now:
        yield "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
    for kind in ("Failed", "FailureTarget"):
        if {"SuccessCriteriaMet", kind} <= now:
            yield f"cannot set SuccessCriteriaMet=True and {kind}=true conditions"
    for kind in ("Failed", "Complete", "FailureTarget"):
        if kind in was - now:
            yield f"cannot disable the terminal {kind}=True condition"
    if "SuccessCriteriaMet" in was - now:
        yield "cannot disable the SuccessCriteriaMet=True condition"


def _completion(before: JsonObject, after: JsonObject, now: set[str]) -> Iterator[FieldError]:
    path, time = "status.completionTime", after.get("completionTime")
    start = after.get("startTime")
    if time and "Complete" not in now:
        yield invalid_value(path, time, "cannot set completionTime when there is no Complete=True condition")
    if not time and "Complete" in now:
        yield required(path, "completionTime is required for Complete jobs")
    if time and start and time < start:
        yield invalid_value(path, time, "completionTime cannot be set before startTime")
    if time and before.get("completionTime") and before["completionTime"] != time:
        yield invalid_value(path, time, "completionTime cannot be mutated")
