"""A Job's rules about pods that fail, and about when it has succeeded early. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubesim.controllers.objects import annotations_of, phase, status_of
from kubewire.informer import Object

INDEX = "batch.kubernetes.io/job-completion-index"


def index_of(pod: Object) -> int:
    """The pod's completion index, -1 for none."""
    text = annotations_of(pod).get(INDEX, "")
    return int(text) if text.isdigit() else -1


def action(spec: dict[str, Any], pod: Object) -> str:
    """What the failure policy says of a failed pod; `Count` when it says nothing."""
    return _match(spec, pod)[0]


def ignored(spec: dict[str, Any], pod: Object) -> bool:
    """Whether the failure does not count."""
    return action(spec, pod) == "Ignore"


def fails_job(spec: dict[str, Any], pod: Object) -> str | None:
    """Why this failure ends the job, if it does."""
    found, text = _match(spec, pod)
    return text if found == "FailJob" else None


def _match(spec: dict[str, Any], pod: Object) -> tuple[str, str]:
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or ()
    if phase(pod) != "Failed":
        return "Count", ""
    about = pod["metadata"]
    name = f"{about['namespace']}/{about['name']}"
    for number, rule in enumerate(rules):
        what = rule["action"]
        if rule.get("onExitCodes"):
            found = _exit(rule["onExitCodes"], pod)
            if found:
                text = f"Container {found[0]} for pod {name} failed with exit code {found[1]}"
                return what, f"{text} matching {what} rule at index {number}"
        elif rule.get("onPodConditions"):
            kind = _condition(rule["onPodConditions"], pod)
            if kind:
                return what, f"Pod {name} has condition {kind} matching {what} rule at index {number}"
    return "Count", ""


def _exit(rule: dict[str, Any], pod: Object) -> tuple[str, int] | None:
    for group in ("containerStatuses", "initContainerStatuses"):
        for one in status_of(pod).get(group) or ():
            if rule.get("containerName") not in (None, one["name"]):
                continue
            ended = one.get("state", {}).get("terminated")
            code = ended.get("exitCode", 0) if ended else 0
            if code and (code in rule["values"]) == (rule["operator"] == "In"):
                return one["name"], code
    return None


def _condition(patterns: Iterable[dict[str, Any]], pod: Object) -> str | None:
    has = {(one["type"], one["status"]) for one in status_of(pod).get("conditions") or ()}
    for one in patterns:
        if (one["type"], one.get("status", "True")) in has:
            return str(one["type"])
    return None


def success_rule(spec: dict[str, Any], succeeded: set[int]) -> int | None:
    """The first rule of the success policy that these indexes fulfil."""
    for number, rule in enumerate((spec.get("successPolicy") or {}).get("rules") or ()):
        wanted = rule.get("succeededIndexes")
        count = rule.get("succeededCount")
        these = succeeded & _indexes(wanted) if wanted is not None else succeeded
        need = count if count is not None else len(_indexes(wanted or ""))
        if len(these) >= need > 0:
            return number
    return None


def _indexes(text: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), int(last or first) + 1))
    return found
