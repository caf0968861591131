"""Workloads, jobs, budgets, claims: their defaults as stored, their rules, what never changes."""

from types import SimpleNamespace
from typing import Any

import pytest

POD = {"containers": [{"name": "c", "image": "i"}]}
STORED_POD = {
    "containers": [
        {
            "image": "i",
            "imagePullPolicy": "Always",
            "name": "c",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }
    ],
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}


def workload(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
    return {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template, **spec},
    }


def test_a_deployment_gets_its_strategy(life: SimpleNamespace) -> None:
    deployments = life.resource("deployments", "apps")
    made = life.created(deployments, workload())
    assert made["spec"] == {
        "progressDeadlineSeconds": 600,
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "selector": {"matchLabels": {"a": "b"}},
        "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}, "type": "RollingUpdate"},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": STORED_POD},
    }
    assert made["status"] == {}
    assert made["metadata"]["generation"] == 1
    assert life.created(deployments, workload(strategy={"type": "Recreate"}))["spec"]["strategy"] == {
        "type": "Recreate"
    }


def test_a_deployment_is_refused_with_every_problem(life: SimpleNamespace) -> None:
    deployments = life.resource("deployments", "apps")
    body = {
        "metadata": {"name": "x"},
        "spec": {
            "replicas": -1,
            "strategy": {"type": "Rolling"},
            "template": {"spec": {"restartPolicy": "Never", **POD}},
        },
    }
    assert life.problems(deployments, body) == [
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        "spec.selector: Required value",
        'spec.strategy: Unsupported value: {"Type":"Rolling","RollingUpdate":null}: supported values: '
        '"Recreate", "RollingUpdate"',
        "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ]
    none = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}
    assert life.problems(deployments, workload(strategy=none)) == [
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
    ]


def test_the_selector_of_a_deployment_never_changes(life: SimpleNamespace) -> None:
    deployments = life.resource("deployments", "apps")
    old = life.created(deployments, workload())
    selector = {"matchLabels": {"a": "b", "x": "y"}}
    template = {**old["spec"]["template"], "metadata": {"labels": {"a": "b", "x": "y"}}}
    new = {**old, "spec": {**old["spec"], "selector": selector, "template": template}}
    assert life.change_problems(deployments, old, new) == [
        'spec.selector: Invalid value: {"matchLabels":{"a":"b","x":"y"}}: field is immutable'
    ]


def test_generation_counts_spec_and_not_labels_and_status_keeps_the_labels(life: SimpleNamespace) -> None:
    deployments = life.resource("deployments", "apps")
    old = life.created(deployments, workload())
    labelled = {**old, "metadata": {**old["metadata"], "labels": {"l": "x"}}}
    assert life.updated(deployments, old, labelled)["metadata"]["generation"] == 1
    scaled = {**old, "spec": {**old["spec"], "replicas": 3}}
    assert life.updated(deployments, old, scaled)["metadata"]["generation"] == 2
    status = {**scaled, "metadata": labelled["metadata"], "status": {"unavailableReplicas": 3}}
    by_status = life.updated(deployments, old, status, "status")
    assert by_status["spec"] == old["spec"]
    assert "labels" not in by_status["metadata"]
    assert by_status["status"] == {"unavailableReplicas": 3}


def test_a_stateful_set_gets_claims_and_policies(life: SimpleNamespace) -> None:
    sets = life.resource("statefulsets", "apps")
    claim = {
        "metadata": {"name": "v"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    made = life.created(sets, workload(serviceName="s", volumeClaimTemplates=[claim]))["spec"]
    assert made["podManagementPolicy"] == "OrderedReady"
    assert made["updateStrategy"] == {"rollingUpdate": {"partition": 0}, "type": "RollingUpdate"}
    assert made["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert made["volumeClaimTemplates"] == [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "v"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "volumeMode": "Filesystem",
            },
            "status": {"phase": "Pending"},
        }
    ]


def test_most_of_a_stateful_set_never_changes(life: SimpleNamespace) -> None:
    sets = life.resource("statefulsets", "apps")
    old = life.created(sets, workload(serviceName="s"))
    assert life.change_problems(sets, old, {**old, "spec": {**old["spec"], "replicas": 2}}) == []
    [problem] = life.change_problems(sets, old, {**old, "spec": {**old["spec"], "serviceName": "t"}})
    assert problem.startswith("spec: Forbidden: updates to statefulset spec for fields other than")


def test_a_daemon_set_counts_its_templates(life: SimpleNamespace) -> None:
    sets = life.resource("daemonsets", "apps")
    old = life.created(sets, workload())
    key = "deprecated.daemonset.template.generation"
    assert old["metadata"]["annotations"] == {key: "1"}
    assert old["spec"]["updateStrategy"] == {
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
        "type": "RollingUpdate",
    }
    template = {**old["spec"]["template"], "metadata": {"labels": {"a": "b", "c": "d"}}}
    new = life.updated(sets, old, {**old, "spec": {**old["spec"], "template": template}})
    assert new["metadata"]["annotations"] == {key: "2"}
    assert new["metadata"]["generation"] == 2


def job(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "j"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", **POD}}, **spec},
    }


def test_a_job_makes_its_own_selector(life: SimpleNamespace) -> None:
    made = life.created(life.resource("jobs", "batch"), job())
    labels = {
        "batch.kubernetes.io/controller-uid": "u",
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": "u",
        "job-name": "j",
    }
    assert made["metadata"]["labels"] == labels
    spec = made["spec"]
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
    assert spec["template"]["metadata"] == {"labels": labels}
    assert {key: spec[key] for key in spec if key not in ("template", "selector")} == {
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "completions": 1,
        "manualSelector": False,
        "parallelism": 1,
        "podReplacementPolicy": "TerminatingOrFailed",
        "suspend": False,
    }


def test_a_job_with_a_limit_per_index_retries_without_end(life: SimpleNamespace) -> None:
    jobs = life.resource("jobs", "batch")
    made = life.created(jobs, job(completionMode="Indexed", completions=3, backoffLimitPerIndex=1))
    assert made["spec"]["backoffLimit"] == 2147483647


def test_a_job_must_not_restart_always(life: SimpleNamespace) -> None:
    jobs = life.resource("jobs", "batch")
    assert life.problems(jobs, {"metadata": {"name": "x"}, "spec": {"template": {"spec": POD}}}) == [
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    ]
    assert life.problems(jobs, job(completionMode="Indexed", parallelism=-1)) == [
        "spec.completions: Required value: when completion mode is Indexed",
        "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
    ]


def test_the_completions_and_the_template_of_a_job_never_change(life: SimpleNamespace) -> None:
    jobs = life.resource("jobs", "batch")
    old = life.created(jobs, job(suspend=True))
    assert life.change_problems(jobs, old, {**old, "spec": {**old["spec"], "completions": 5}}) == [
        "spec.completions: Invalid value: 5: field is immutable"
    ]
    pod = old["spec"]["template"]["spec"]
    other = {
        **old["spec"]["template"],
        "spec": {**pod, "containers": [{**pod["containers"][0], "image": "o"}]},
    }
    [problem] = life.change_problems(jobs, old, {**old, "spec": {**old["spec"], "template": other}})
    assert problem.startswith("spec.template.spec: Invalid value")
    placed = {**old["spec"]["template"], "spec": {**pod, "nodeSelector": {"a": "b"}}}
    assert life.change_problems(jobs, old, {**old, "spec": {**old["spec"], "template": placed}}) == []


def cron(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "c"},
        "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": job()["spec"]}, **spec},
    }


def test_a_cron_job_gets_its_policies_and_leaves_its_jobs_alone(life: SimpleNamespace) -> None:
    made = life.created(life.resource("cronjobs", "batch"), cron())["spec"]
    assert {key: made[key] for key in made if key != "jobTemplate"} == {
        "concurrencyPolicy": "Allow",
        "failedJobsHistoryLimit": 1,
        "schedule": "*/5 * * * *",
        "successfulJobsHistoryLimit": 3,
        "suspend": False,
    }
    assert made["jobTemplate"]["spec"] == {
        "template": {"metadata": {}, "spec": {**STORED_POD, "restartPolicy": "Never"}}
    }


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("every day", "expected exactly 5 fields, found 2: [every day]"),
        ("61 * * * *", "end of range (61) above maximum (59): 61"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("@never", "unrecognized descriptor: @never"),
    ],
)
def test_a_schedule_that_is_none_is_refused_with_the_reason(
    life: SimpleNamespace, schedule: str, why: str
) -> None:
    [problem] = life.problems(life.resource("cronjobs", "batch"), cron(schedule=schedule))
    assert problem == f'spec.schedule: Invalid value: "{schedule}": {why}'


@pytest.mark.parametrize("schedule", ["@daily", "0 0 1 jan sun", "0-59/2 1,2,3 ? * mon-fri", "@every 1h30m"])
def test_schedules_have_names_ranges_steps_and_shorthands(life: SimpleNamespace, schedule: str) -> None:
    assert life.problems(life.resource("cronjobs", "batch"), cron(schedule=schedule)) == []


def test_a_time_zone_has_to_exist(life: SimpleNamespace) -> None:
    assert life.problems(life.resource("cronjobs", "batch"), cron(timeZone="Mars/Crater")) == [
        'spec.timeZone: Invalid value: "Mars/Crater": unknown time zone Mars/Crater'
    ]


def test_a_budget_has_one_of_two_numbers(life: SimpleNamespace) -> None:
    budgets = life.resource("poddisruptionbudgets", "policy")
    made = life.created(
        budgets, {"metadata": {"name": "b"}, "spec": {"maxUnavailable": "50%", "selector": {}}}
    )
    assert made["spec"] == {"maxUnavailable": "50%", "selector": {}}
    both = {"minAvailable": 1, "maxUnavailable": 1}
    [problem] = life.problems(budgets, {"metadata": {"name": "b"}, "spec": both})
    assert problem.endswith("minAvailable and maxUnavailable cannot be both set")
    [problem] = life.problems(budgets, {"metadata": {"name": "b"}, "spec": {"minAvailable": "some"}})
    assert problem.startswith('spec.minAvailable: Invalid value: "some": a valid percent string must be')


def test_a_claim_waits_and_its_spec_never_changes(life: SimpleNamespace) -> None:
    claims = life.resource("persistentvolumeclaims")
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    made = life.created(claims, {"metadata": {"name": "data"}, "spec": spec})
    assert made["spec"]["volumeMode"] == "Filesystem"
    assert made["status"] == {"phase": "Pending"}
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    [problem] = life.change_problems(
        claims, made, {**made, "spec": {**made["spec"], "accessModes": ["ReadWriteMany"]}}
    )
    assert problem.startswith("spec: Forbidden: spec is immutable after creation")
    assert life.problems(claims, {"metadata": {"name": "b"}, "spec": {"accessModes": ["Sometimes"]}}) == [
        'spec.accessModes: Unsupported value: "Sometimes": supported values: "ReadOnlyMany", "ReadWriteMany", '
        '"ReadWriteOnce", "ReadWriteOncePod"',
        "spec.resources[storage]: Required value",
    ]


def test_a_binding_names_groups_and_keeps_its_role(life: SimpleNamespace) -> None:
    bindings = life.resource("rolebindings", "rbac.authorization.k8s.io")
    body = {
        "metadata": {"name": "system:b"},
        "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}],
    }
    made = life.created(bindings, body)
    assert made["roleRef"]["apiGroup"] == "rbac.authorization.k8s.io"
    assert made["subjects"] == [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]
    other = {**made, "roleRef": {**made["roleRef"], "name": "s"}}
    [problem] = life.change_problems(bindings, made, other)
    assert problem.startswith("roleRef: Invalid value")
    assert problem.endswith("cannot change roleRef")


def test_limits_of_containers_imply_each_other(life: SimpleNamespace) -> None:
    item = {
        "type": "Container",
        "max": {"cpu": "1"},
        "default": {"cpu": "500m", "memory": "256Mi"},
        "defaultRequest": {"cpu": "100m"},
    }
    made = life.created(life.resource("limitranges"), {"metadata": {"name": "l"}, "spec": {"limits": [item]}})
    assert made["spec"]["limits"][0]["defaultRequest"] == {"cpu": "100m", "memory": "256Mi"}


def test_a_kind_without_rules_of_its_own_is_checked_by_its_schema(life: SimpleNamespace) -> None:
    classes = life.resource("storageclasses", "storage.k8s.io")
    assert life.problems(classes, {"metadata": {"name": "c"}}) == ["provisioner: Required value"]
    slices = life.resource("endpointslices", "discovery.k8s.io")
    [problem] = life.problems(slices, {"metadata": {"name": "s"}, "addressType": "Carrier", "endpoints": []})
    assert problem == ('addressType: Unsupported value: "Carrier": supported values: "FQDN", "IPv4", "IPv6"')
