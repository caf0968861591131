"""Pods: what the smallest one becomes, what a rich one gets, what is refused, what an update may change."""

from types import SimpleNamespace
from typing import Any

import pytest

from kubesim.apiserver.kinds.pod_defaults import pull_policy

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


@pytest.fixture
def pods(life: SimpleNamespace) -> Any:
    return life.resource("pods")


def test_the_smallest_pod_gets_everything_that_a_kubelet_relies_on(life: SimpleNamespace, pods: Any) -> None:
    made = life.created(pods, pod(containers=[{"name": "c", "image": "nginx"}]))
    assert made == {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": "p",
            "namespace": "n",
            "uid": "u",
            "creationTimestamp": life.now,
            "generation": 1,
        },
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "image": "nginx",
                    "imagePullPolicy": "Always",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                }
            ],
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": True,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


def test_probes_hooks_and_references_get_their_defaults(life: SimpleNamespace, pods: Any) -> None:
    container = {
        "name": "a",
        "image": "nginx:latest",
        "readinessProbe": {"httpGet": {"port": 80}},
        "livenessProbe": {"grpc": {"port": 80}, "initialDelaySeconds": 3},
        "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
        "env": [
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "R", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
    }
    made = life.created(pods, pod(containers=[container]))["spec"]["containers"][0]
    times = {"failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1}
    assert made["readinessProbe"] == {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, **times}
    assert made["livenessProbe"] == {"grpc": {"port": 80, "service": ""}, "initialDelaySeconds": 3, **times}
    assert made["lifecycle"] == {"preStop": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}}}
    assert made["env"][0]["valueFrom"]["fieldRef"] == {"apiVersion": "v1", "fieldPath": "status.podIP"}
    assert made["env"][1]["valueFrom"]["resourceFieldRef"] == {"divisor": "0", "resource": "limits.cpu"}


def test_limits_become_requests_and_host_ports_follow_the_host_network(
    life: SimpleNamespace, pods: Any
) -> None:
    container = {
        "name": "a",
        "image": "i",
        "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "0.5", "nvidia.com/gpu": 1}, "requests": {"cpu": "100m"}},
    }
    made = life.created(pods, pod(containers=[container], hostNetwork=True))
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "500m", "nvidia.com/gpu": "1"},
        "requests": {"cpu": "100m", "nvidia.com/gpu": "1"},
    }
    assert made["spec"]["containers"][0]["ports"] == [
        {"containerPort": 80, "hostPort": 80, "protocol": "TCP"}
    ]
    assert made["status"]["qosClass"] == "Burstable"


def test_volumes_get_modes_types_and_a_source(life: SimpleNamespace, pods: Any) -> None:
    volumes = [
        {"name": "cm", "configMap": {"name": "x"}},
        {"name": "hp", "hostPath": {"path": "/x"}},
        {"name": "no"},
        {"name": "pr", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {
            "name": "eph",
            "ephemeral": {
                "volumeClaimTemplate": {
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "1Gi"}},
                    }
                }
            },
        },
    ]
    cm, hp, no, pr, eph = life.created(pods, pod(volumes=volumes))["spec"]["volumes"]
    assert cm["configMap"] == {"name": "x", "defaultMode": 420}
    assert hp["hostPath"] == {"path": "/x", "type": ""}
    assert no == {"name": "no", "emptyDir": {}}
    assert pr["projected"] == {
        "defaultMode": 420,
        "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
    }
    template = eph["ephemeral"]["volumeClaimTemplate"]
    assert template["metadata"] == {}
    assert template["spec"]["volumeMode"] == "Filesystem"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.36", "IfNotPresent"),
        ("host:5000/x", "Always"),
        ("host:5000/x:v1", "IfNotPresent"),
        ("repo/x@sha256:" + "0" * 64, "IfNotPresent"),
        ("Not An Image", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_gates_are_reported_as_a_condition(life: SimpleNamespace, pods: Any) -> None:
    made = life.created(pods, pod(schedulingGates=[{"name": "example.com/wait"}]))
    assert made["status"]["conditions"] == [
        {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": life.now,
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": []}, ["spec.containers: Required value"]),
        (
            {"restartPolicy": "Sometimes", "dnsPolicy": "Odd"},
            [
                'spec.dnsPolicy: Unsupported value: "Odd": supported values: "ClusterFirstWithHostNet", '
                '"ClusterFirst", "Default", "None"',
                'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", '
                '"Never"',
            ],
        ),
        (
            {
                "containers": [
                    {"name": "A"},
                    {"name": "c", "image": "i", "ports": [{"containerPort": 0}], "imagePullPolicy": "Now"},
                    {"name": "c", "image": "i"},
                ]
            },
            [
                "spec.containers[0].image: Required value",
                f'spec.containers[0].name: Invalid value: "A": {LABEL}',
                'spec.containers[1].imagePullPolicy: Unsupported value: "Now": supported values: "Always", '
                '"IfNotPresent", "Never"',
                "spec.containers[1].ports[0].containerPort: Required value",
                'spec.containers[2].name: Duplicate value: "c"',
            ],
        ),
        (
            {
                "containers": [
                    {
                        "name": "c",
                        "image": "i",
                        "resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}},
                        "volumeMounts": [{"name": "none", "mountPath": "/x"}],
                    }
                ],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}],
            },
            [
                'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu '
                "limit of 1",
                'spec.containers[0].volumeMounts[0].name: Not found: "none"',
                'spec.volumes[1].name: Duplicate value: "v"',
            ],
        ),
        (
            {
                "containers": [
                    {
                        "name": "c",
                        "image": "i",
                        "resources": {"requests": {"nvidia.com/gpu": 1}},
                        "env": [{"name": "a=b", "value": "x"}],
                        "livenessProbe": {},
                    }
                ]
            },
            [
                'spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must '
                "consist only of printable ASCII characters other than '='",
                "spec.containers[0].livenessProbe: Required value: must specify a handler type",
                "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable "
                "resources",
            ],
        ),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "configMap": {"name": "x"}}]},
            ["spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            {"tolerations": [{"key": "k", "operator": "Exists", "effect": "Now"}]},
            [
                'spec.tolerations[0].effect: Unsupported value: "Now": supported values: "NoSchedule", '
                '"PreferNoSchedule", "NoExecute"'
            ],
        ),
        (
            {"ephemeralContainers": [{"name": "d", "image": "i"}]},
            ["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
        (
            {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}
                    }
                }
            },
            [
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: "
                "Required value: must have at least one node selector term"
            ],
        ),
    ],
)
def test_a_pod_is_refused_with_every_problem(
    life: SimpleNamespace, pods: Any, spec: dict[str, Any], expected: list[str]
) -> None:
    assert life.problems(pods, pod(**spec)) == expected


def with_spec(obj: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**obj, "spec": {**obj["spec"], **changes}}


def test_the_image_of_a_pod_may_change_and_counts_as_a_generation(life: SimpleNamespace, pods: Any) -> None:
    old = life.created(pods, pod())
    container = {**old["spec"]["containers"][0], "image": "other"}
    new = life.updated(pods, old, with_spec(old, containers=[container]))
    assert new["spec"]["containers"][0]["image"] == "other"
    assert new["metadata"]["generation"] == 2
    assert old["metadata"]["generation"] == 1


def test_nothing_else_of_a_running_pod_may_change(life: SimpleNamespace, pods: Any) -> None:
    old = life.created(pods, pod())
    container = {**old["spec"]["containers"][0], "env": [{"name": "A", "value": "b"}]}
    for change in ({"containers": [container]}, {"nodeName": "n"}, {"restartPolicy": "Never"}):
        [problem] = life.change_problems(pods, old, with_spec(old, **change))
        assert problem.startswith("spec: Forbidden: pod updates may not change fields other than")


def test_gates_are_only_taken_away_and_leave_room_for_placement_until_they_are(
    life: SimpleNamespace, pods: Any
) -> None:
    old = life.created(pods, pod(schedulingGates=[{"name": "a.b/c"}, {"name": "a.b/d"}]))
    more = [*old["spec"]["schedulingGates"], {"name": "a.b/e"}]
    assert life.change_problems(pods, old, with_spec(old, schedulingGates=more)) == [
        "spec.schedulingGates[2].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a.b/e'"
    ]
    placed = with_spec(old, schedulingGates=more[:1], nodeSelector={"zone": "a"})
    assert life.change_problems(pods, old, placed) == []


def test_tolerations_are_only_added(life: SimpleNamespace, pods: Any) -> None:
    one = {"key": "a", "operator": "Exists"}
    old = life.created(pods, pod(tolerations=[one]))
    more = [*old["spec"]["tolerations"], {"key": "b", "operator": "Exists"}]
    assert life.change_problems(pods, old, with_spec(old, tolerations=more)) == []
    assert life.change_problems(pods, old, with_spec(old, tolerations=[])) == [
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    ]


def test_a_write_to_the_pod_ignores_status_and_a_write_to_status_ignores_spec(
    life: SimpleNamespace, pods: Any
) -> None:
    old = life.created(pods, pod())
    wanted = {**with_spec(old, nodeName="n"), "status": {"phase": "Running"}}
    by_status = life.updated(pods, old, wanted, "status")
    assert "nodeName" not in by_status["spec"]
    assert by_status["status"] == {"phase": "Running", "qosClass": "BestEffort"}
    by_pod = life.updated(pods, old, {**old, "status": {"phase": "Running"}})
    assert by_pod["status"] == old["status"]


def test_the_single_address_of_a_pod_is_the_first_of_all(life: SimpleNamespace, pods: Any) -> None:
    old = life.created(pods, pod())
    one = life.updated(pods, old, {**old, "status": {"podIP": "10.0.0.1"}}, "status")
    assert one["status"]["podIPs"] == [{"ip": "10.0.0.1"}]
    other = life.updated(pods, one, {**one, "status": {**one["status"], "podIP": "10.0.0.2"}}, "status")
    assert other["status"]["podIPs"] == [{"ip": "10.0.0.2"}]
    many = life.updated(pods, old, {**old, "status": {"podIPs": [{"ip": "10.0.0.3"}]}}, "status")
    assert many["status"]["podIP"] == "10.0.0.3"


def test_debug_containers_can_be_added_and_not_removed(life: SimpleNamespace, pods: Any) -> None:
    old = life.created(pods, pod())
    debug = [{"name": "debug", "image": "busybox", "targetContainerName": "c"}]
    new = life.updated(pods, old, with_spec(old, ephemeralContainers=debug), "ephemeralcontainers")
    assert new["metadata"]["generation"] == 2
    assert new["spec"]["ephemeralContainers"][0]["imagePullPolicy"] == "Always"
    assert life.change_problems(pods, new, old, "ephemeralcontainers") == [
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be removed\n'
    ]
    bad = [{"name": "debug", "image": "i", "ports": [{"containerPort": 1}]}]
    assert life.change_problems(
        pods, old, with_spec(old, ephemeralContainers=bad), "ephemeralcontainers"
    ) == ["spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"]


def test_a_resize_changes_resources_and_nothing_else(life: SimpleNamespace, pods: Any) -> None:
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    old = life.created(pods, pod(containers=[{"name": "c", "image": "i", "resources": resources}]))
    bigger = {"requests": {"cpu": "150m"}, "limits": {"cpu": "200m"}}
    container = {**old["spec"]["containers"][0], "resources": bigger, "image": "other"}
    new = life.updated(pods, old, with_spec(old, containers=[container]), "resize")
    assert new["spec"]["containers"][0]["resources"] == bigger
    assert new["spec"]["containers"][0]["image"] == "i"
    assert new["metadata"]["generation"] == 2
    [refused] = life.change_problems(pods, old, with_spec(old, containers=[container]))
    assert refused.startswith("spec: Forbidden")


@pytest.mark.parametrize(
    ("resources", "quality"),
    [
        ({}, "BestEffort"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"nvidia.com/gpu": "1"}}, "BestEffort"),
    ],
)
def test_the_quality_of_service_follows_cpu_and_memory(
    life: SimpleNamespace, pods: Any, resources: dict[str, Any], quality: str
) -> None:
    made = life.created(pods, pod(containers=[{"name": "c", "image": "i", "resources": resources}]))
    assert made["status"]["qosClass"] == quality
