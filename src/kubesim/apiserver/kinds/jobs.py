"""Jobs and CronJobs: a job makes its own selector and labels from its uid."""

from __future__ import annotations

import zoneinfo

from kubesim.apiserver.kinds import cron, jobrules, pod_defaults, pod_rules
from kubesim.apiserver.kinds.addresses import domain_path_errors
from kubesim.apiserver.kinds.base import Context, Strategy, immutable, not_negative, put, with_meta
from kubesim.apiserver.kinds.placement import label_selector
from kubesim.apiserver.kinds.pod_warnings import pod_warnings
from kubesim.apiserver.kinds.workloads import host_name_warnings
from kubesim.apiserver.selectors import from_object
from kubesim.errors import (
    FieldError,
    JsonObject,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import max_length
from kubesim.schema.registry import ResourceType

JOB_NAME = "batch.kubernetes.io/job-name"
CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
_OLD_JOB_NAME, _OLD_CONTROLLER_UID = "job-name", "controller-uid"
_ENDLESS = 2**31 - 1
_CRON_NAME = 52


def _job_spec(spec: JsonObject) -> JsonObject:
    constants: JsonObject = {
        "backoffLimit": _ENDLESS if spec.get("backoffLimitPerIndex") is not None else 6,
        "completionMode": "NonIndexed",
        "suspend": False,
        "manualSelector": False,
        "podReplacementPolicy": "Failed"
        if spec.get("podFailurePolicy") is not None
        else "TerminatingOrFailed",
    }
    if "completions" not in spec and "parallelism" not in spec:
        constants["completions"] = 1
    constants["parallelism"] = 1
    spec = pod_defaults.filled(spec, constants)
    spec = pod_defaults.replaced(spec, "podFailurePolicy", _failure_policy)
    return pod_defaults.replaced(spec, "template", pod_defaults.template)


def _failure_policy(policy: JsonObject) -> JsonObject:
    def condition(pattern: JsonObject) -> JsonObject:
        return pattern if pattern.get("status") else {**pattern, "status": "True"}

    def rule(one: JsonObject) -> JsonObject:
        return pod_defaults.replaced(one, "onPodConditions", pod_defaults.each(condition))

    return pod_defaults.replaced(policy, "rules", pod_defaults.each(rule))


def _rules(spec: JsonObject, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for name in (
        "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
        "backoffLimitPerIndex", "maxFailedIndexes",
    ):  # fmt: skip
        found += not_negative(spec.get(name), f"{path}.{name}")
    mode = spec.get("completionMode")
    if mode is not None and mode not in ("Indexed", "NonIndexed"):
        found.append(not_supported(f"{path}.completionMode", mode, ("Indexed", "NonIndexed")))
    found += _indexes(spec, path)
    if spec.get("managedBy") is not None:
        found += domain_path_errors(spec["managedBy"], f"{path}.managedBy")
    policy = spec.get("podReplacementPolicy")
    if spec.get("podFailurePolicy") is not None:
        if policy is not None and policy != "Failed":
            found.append(not_supported(f"{path}.podReplacementPolicy", policy, ("Failed",)))
        found += jobrules.failure_policy(spec, f"{path}.podFailurePolicy")
    elif policy is not None and policy not in ("Failed", "TerminatingOrFailed"):
        found.append(not_supported(f"{path}.podReplacementPolicy", policy, ("Failed", "TerminatingOrFailed")))
    if spec.get("successPolicy") is not None:
        found += jobrules.success_policy(spec, f"{path}.successPolicy")
    found += pod_rules.template(spec["template"], f"{path}.template")
    return found + _restart(spec, f"{path}.template.spec.restartPolicy")


def _restart(spec: JsonObject, path: str) -> list[FieldError]:
    """Pods of a job end: they are not started again for ever."""
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy in ("Always", "", None):
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [not_supported(path, policy, ("OnFailure", "Never"))]
    if policy != "Never" and spec.get("podFailurePolicy") is not None:
        why = 'only "Never" is supported when podFailurePolicy is specified'
        return [invalid_value(path, policy, why)]
    return []


_MOST_PARALLEL, _MANY = 100_000, 100_000
_MOST_PARALLEL_OF_MANY = _MOST_FAILED_OF_MANY = 10_000


def _indexes(spec: JsonObject, path: str) -> list[FieldError]:
    """What only a job with indexes may say, and how much of it."""
    completions, parallelism = spec.get("completions"), spec.get("parallelism") or 0
    per_index, failed = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    found: list[FieldError] = []
    if failed is not None and per_index is None:
        found.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.get("completionMode") != "Indexed":
        found.extend(
            invalid_value(f"{path}.{name}", spec[name], "requires indexed completion mode")
            for name in ("backoffLimitPerIndex", "maxFailedIndexes")
            if spec.get(name) is not None
        )
        return found
    if completions is None:
        found.append(required(f"{path}.completions", "when completion mode is Indexed"))
    limits = [("parallelism", parallelism, _MOST_PARALLEL, " when completion mode is Indexed")]
    if failed is not None:
        limits.append(("maxFailedIndexes", failed, _MANY, ""))
    if completions is not None and completions > _MANY and per_index is not None:
        why = f" when completions are above {_MANY} and used with backoff limit per index"
        limits.append(("parallelism", parallelism, _MOST_PARALLEL_OF_MANY, why))
        if failed is None:
            needed = f"must be specified when completions is above {_MANY}"
            found.append(required(f"{path}.maxFailedIndexes", needed))
        else:
            limits.append(("maxFailedIndexes", failed, _MOST_FAILED_OF_MANY, why))
    found.extend(
        invalid_value(f"{path}.{name}", value, f"must be less than or equal to {most}{why}")
        for name, value, most, why in limits
        if value > most
    )
    if completions is not None and failed is not None and failed > completions:
        why = "must be less than or equal to completions"
        found.append(invalid_value(f"{path}.maxFailedIndexes", failed, why))
    return found


class JobStrategy(Strategy):
    generation = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        spec = _job_spec(obj["spec"])
        obj = obj if spec is obj["spec"] else put(obj, "spec", spec)
        labels = (spec["template"].get("metadata") or {}).get("labels")
        if labels and not obj["metadata"].get("labels"):
            obj = with_meta(obj, labels=labels)
        return obj

    def prepare_create(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> JsonObject:
        obj = super().prepare_create(rt, obj, ctx)
        if not obj["spec"].get("manualSelector"):
            obj = _with_selector(obj)
        return self.default(rt, obj)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found = _rules(spec, "spec")
        selector = spec.get("selector")
        if selector is None:
            return [*found, required("spec.selector")]
        found += label_selector(selector, "spec.selector")
        labels = (spec["template"].get("metadata") or {}).get("labels")
        if not found and not from_object(selector).matches(labels or {}):
            why = "`selector` does not match template `labels`"
            found.append(invalid_value("spec.template.metadata.labels", labels, why))
        return found + _generated(obj)

    def validate_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        return jobrules.status_errors(old, new)

    def warnings(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject) -> list[str]:
        if _unchanged(old, obj):
            return []
        template = obj["spec"]["template"]
        found = host_name_warnings(obj) if old is None else []
        return found + pod_warnings(template["spec"], template.get("metadata") or {}, "spec.template")

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        before, after = old["spec"], new["spec"]
        found: list[FieldError] = []
        done, wanted = before.get("completions"), after.get("completions")
        if after.get("completionMode") != "Indexed":
            found += immutable(done, wanted, "spec.completions")
        elif done != wanted and wanted is not None and wanted != after.get("parallelism"):
            why = "can only be modified in tandem with spec.parallelism"
            found.append(invalid_value("spec.completions", wanted, why))
        found += immutable(before.get("selector"), after.get("selector"), "spec.selector")
        waiting = bool(before.get("suspend")) and not (old.get("status") or {}).get("startTime")
        if _frozen(before["template"], waiting=waiting) != _frozen(after["template"], waiting=waiting):
            path = "spec.template.spec" if waiting else "spec.template"
            found.append(invalid_value(path, after["template"], "field is immutable"))
        for name in (
            "completionMode",
            "podFailurePolicy",
            "backoffLimitPerIndex",
            "managedBy",
            "successPolicy",
        ):
            found += immutable(before.get(name), after.get(name), f"spec.{name}")
        return found


def _frozen(template: JsonObject, *, waiting: bool) -> JsonObject:
    """What cannot change in a template; a job that has not started may still choose where it runs."""
    if not waiting:
        return template
    free = ("affinity", "nodeSelector", "tolerations", "schedulingGates")
    spec = {key: value for key, value in template["spec"].items() if key not in free}
    containers = [
        {key: value for key, value in one.items() if key != "resources"}
        for one in spec.get("containers") or ()
    ]
    return {"spec": {**spec, "containers": containers}}


def _unchanged(old: JsonObject | None, new: JsonObject) -> bool:
    """Whether an update is none of what is wanted, and so nothing to warn of."""
    return old is not None and old["metadata"].get("generation") == new["metadata"].get("generation")


def _generated(obj: JsonObject) -> list[FieldError]:
    """The selector and the labels that the server makes have to be the ones that it made."""
    spec, meta = obj["spec"], obj["metadata"]
    if spec.get("manualSelector"):
        return []
    expected = {
        _OLD_JOB_NAME: meta.get("name", ""),
        JOB_NAME: meta.get("name", ""),
        _OLD_CONTROLLER_UID: meta.get("uid", ""),
        CONTROLLER_UID: meta.get("uid", ""),
    }
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    found: list[FieldError] = []
    for key, value in expected.items():
        path = "spec.template.metadata.labels"
        if key not in labels:
            found.append(required(f"{path}[{key}]", f"must be '{value}'"))
        elif labels[key] != value:
            found.append(invalid_value(f"{path}[{key}]", labels[key], f"must be '{value}'"))
    if not from_object(spec["selector"]).matches(expected):
        found.append(invalid_value("spec.selector", spec["selector"], "`selector` not auto-generated"))
    return found


def _with_selector(obj: JsonObject) -> JsonObject:
    """Labels and a selector that no other job has."""
    name, uid = obj["metadata"]["name"], obj["metadata"]["uid"]
    spec = obj["spec"]
    template = spec["template"]
    meta = template.get("metadata") or {}
    labels = dict(meta.get("labels") or {})
    for key, value in (
        (_OLD_JOB_NAME, name),
        (JOB_NAME, name),
        (_OLD_CONTROLLER_UID, uid),
        (CONTROLLER_UID, uid),
    ):
        labels.setdefault(key, value)
    selector = dict(spec.get("selector") or {})
    matched = dict(selector.get("matchLabels") or {})
    matched.setdefault(CONTROLLER_UID, uid)
    selector["matchLabels"] = matched
    made = {**spec, "selector": selector, "template": {**template, "metadata": {**meta, "labels": labels}}}
    return put(obj, "spec", made)


class CronJobStrategy(Strategy):
    generation = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        spec = pod_defaults.filled(
            obj["spec"],
            {
                "concurrencyPolicy": "Allow",
                "suspend": False,
                "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 1,
            },
        )
        spec = pod_defaults.replaced(spec, "jobTemplate", _job_template)
        return obj if spec is obj["spec"] else put(obj, "spec", spec)

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found: list[FieldError] = []
        name = obj["metadata"].get("name", "")
        if len(name) > _CRON_NAME:
            found.append(invalid_value("metadata.name", name, max_length(_CRON_NAME)))
        if not spec["schedule"]:
            found.append(required("spec.schedule"))
        else:
            found += _schedule(spec["schedule"])
        if spec.get("timeZone") is not None:
            found += _time_zone(spec["timeZone"])
        policies = ("Allow", "Forbid", "Replace")
        if spec["concurrencyPolicy"] not in policies:
            found.append(not_supported("spec.concurrencyPolicy", spec["concurrencyPolicy"], policies))
        for key in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            found += not_negative(spec.get(key), f"spec.{key}")
        job = spec["jobTemplate"]["spec"]
        if job.get("manualSelector"):
            path = "spec.jobTemplate.spec.manualSelector"
            found.append(not_supported(path, job["manualSelector"], ("nil", "false")))
        if job.get("selector") is not None:
            path = "spec.jobTemplate.spec.selector"
            found.append(invalid_value(path, job["selector"], "`selector` will be auto-generated"))
        return found + _rules(job, "spec.jobTemplate.spec")

    def warnings(self, rt: ResourceType, old: JsonObject | None, obj: JsonObject) -> list[str]:
        if _unchanged(old, obj):
            return []
        template = obj["spec"]["jobTemplate"]["spec"]["template"]
        found = host_name_warnings(obj) if old is None else []
        return found + pod_warnings(
            template["spec"], template.get("metadata") or {}, "spec.jobTemplate.spec.template"
        )


def _job_template(template: JsonObject) -> JsonObject:
    def spec(one: JsonObject) -> JsonObject:
        return pod_defaults.replaced(one, "template", pod_defaults.template)

    return pod_defaults.replaced(template, "spec", spec)


def _schedule(text: str) -> list[FieldError]:
    try:
        cron.check(text)
    except cron.InvalidSchedule as wrong:
        return [invalid_value("spec.schedule", text, str(wrong))]
    if "TZ" in text:
        why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        return [invalid_value("spec.schedule", text, why)]
    return []


def _time_zone(name: str) -> list[FieldError]:
    path = "spec.timeZone"
    if not name:
        return [invalid_value(path, name, "timeZone must be nil or non-empty string")]
    if name.lower() == "local":
        return [
            invalid_value(
                path,
                name,
                "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            )
        ]
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return [invalid_value(path, name, f"unknown time zone {name}")]
    return []
