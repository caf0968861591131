"""What a create of a kind with rules of its own is refused with, in the words of the real server."""

import base64
from types import SimpleNamespace
from typing import Any

import pytest

TARGET = {"kind": "Deployment", "name": "d"}
SERVICE = {"service": {"name": "s", "port": {"number": 80}}}
REQUEST = base64.b64encode(
    b"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n"
).decode()


def path(kind: str | None, at: str = "/", backend: dict[str, Any] = SERVICE) -> dict[str, Any]:
    return {"path": at, "backend": backend, **({"pathType": kind} if kind else {})}


def ingress(*paths: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"spec": {"rules": [{**more, "http": {"paths": list(paths)}}]}}


def scaler(**spec: Any) -> dict[str, Any]:
    return {"spec": {"maxReplicas": 3, "scaleTargetRef": TARGET, **spec}}


def job(**spec: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    return {"spec": {"template": {"spec": pod}, **spec}}


def slice_of(kind: str, *addresses: str, **more: Any) -> dict[str, Any]:
    return {"addressType": kind, "endpoints": [{"addresses": list(addresses)}], **more}


def request(**spec: Any) -> dict[str, Any]:
    return {"spec": {"request": REQUEST, "signerName": "a.b/c", "usages": ["client auth"], **spec}}


ABSOLUTE = 'spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path'
REFUSED: list[tuple[str, str, dict[str, Any], list[str]]] = [
    (
        "ingresses",
        "networking.k8s.io",
        {"spec": {}},
        ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    ),
    ("ingresses", "networking.k8s.io", ingress(path("Prefix")), []),
    ("ingresses", "networking.k8s.io", ingress(path("Prefix", "a")), [ABSOLUTE]),
    (
        "ingresses",
        "networking.k8s.io",
        ingress(path(None)),
        ["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
    ),
    (
        "ingresses",
        "networking.k8s.io",
        ingress(path("Exact", "/a//b")),
        ["spec.rules[0].http.paths[0].path: Invalid value: \"/a//b\": must not contain '//'"],
    ),
    (
        "ingresses",
        "networking.k8s.io",
        ingress(path("Prefix"), host="1.2.3.4"),
        ['spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address'],
    ),
    (
        "networkpolicies",
        "networking.k8s.io",
        {"spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "x"}}]}]}},
        [
            'spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "x": must be a valid CIDR value, '
            "(e.g. 10.9.8.0/24 or 2001:db8::/64)"
        ],
    ),
    (
        "networkpolicies",
        "networking.k8s.io",
        {"spec": {"podSelector": {}, "egress": [{"ports": [{"endPort": 90}]}]}},
        [
            "spec.egress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is not specified"
        ],
    ),
    ("horizontalpodautoscalers", "autoscaling", scaler(), []),
    (
        "horizontalpodautoscalers",
        "autoscaling",
        scaler(maxReplicas=1, minReplicas=2),
        ["spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`"],
    ),
    (
        "horizontalpodautoscalers",
        "autoscaling",
        scaler(metrics=[{"type": "Pods"}]),
        [
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
        ],
    ),
    (
        "horizontalpodautoscalers",
        "autoscaling",
        scaler(behavior={"scaleDown": {"stabilizationWindowSeconds": 4000}}),
        [
            "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 4000: "
            "must be less than or equal to 3600"
        ],
    ),
    (
        "jobs",
        "batch",
        job(podFailurePolicy={"rules": [{"action": "Ignore"}]}),
        [
            "spec.podFailurePolicy.rules[0]: Invalid value: "
            "specifying one of OnExitCodes and OnPodConditions is required"
        ],
    ),
    (
        "jobs",
        "batch",
        job(successPolicy={"rules": [{"succeededCount": 1}]}),
        [
            'spec.successPolicy: Invalid value: {"rules":[{"succeededCount":1}]}: requires indexed completion mode',
        ],
    ),
    (
        "endpointslices",
        "discovery.k8s.io",
        slice_of("IPv4", "::1"),
        ['endpoints[0].addresses[0]: Invalid value: "::1": must be an IPv4 address'],
    ),
    (
        "endpointslices",
        "discovery.k8s.io",
        slice_of("FQDN", "a.b", ports=[{"name": "x", "port": 1}, {"name": "x", "port": 2}]),
        ['ports[1].name: Duplicate value: "x"'],
    ),
    ("certificatesigningrequests", "certificates.k8s.io", request(), []),
    (
        "certificatesigningrequests",
        "certificates.k8s.io",
        request(usages=["client auth", "client auth"], signerName="a"),
        [
            'spec.signerName: Invalid value: "a": must be a fully qualified domain and path of the form '
            "'example.com/signer-name'",
            'spec.usages[1]: Duplicate value: "client auth"',
        ],
    ),
    (
        "runtimeclasses",
        "node.k8s.io",
        {"handler": "a", "overhead": {"podFixed": {"cpu": "-1"}}},
        ['overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0'],
    ),
    (
        "storageclasses",
        "storage.k8s.io",
        {
            "provisioner": "a/b",
            "allowedTopologies": [{"matchLabelExpressions": [{"key": "k", "values": []}]}],
        },
        ["allowedTopologies[0].matchLabelExpressions[0].values: Required value"],
    ),
    (
        "secrets",
        "",
        {"type": "kubernetes.io/ssh-auth"},
        ["data[ssh-privatekey]: Required value"],
    ),
    (
        "services",
        "",
        {"spec": {"ports": [{"port": 1}], "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 1}}}},
        ["spec.sessionAffinityConfig: Forbidden: must not be set when session affinity is None"],
    ),
]


@pytest.mark.parametrize(("plural", "group", "body", "expected"), REFUSED)
def test_it_is_refused_with_these_causes(
    life: SimpleNamespace, plural: str, group: str, body: dict[str, Any], expected: list[str]
) -> None:
    version = "v2" if group == "autoscaling" else "v1"
    assert (
        life.problems(life.resource(plural, group, version), {"metadata": {"name": "x"}, **body}) == expected
    )


POD_REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    (
        {"hostAliases": [{"ip": "x"}]},
        [
            'spec.hostAliases[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'
        ],
    ),
    (
        {"dnsPolicy": "None"},
        [
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ],
    ),
    (
        {"securityContext": {"sysctls": [{"name": "a", "value": ""}, {"name": "a", "value": "1"}]}},
        ['spec.securityContext.sysctls[1].name: Duplicate value: "a"'],
    ),
    (
        {"securityContext": {"seccompProfile": {"type": "Localhost"}}},
        [
            "spec.securityContext.seccompProfile.localhostProfile: Required value: "
            "must be set when seccomp type is Localhost"
        ],
    ),
    (
        {"preemptionPolicy": "x"},
        ['spec.preemptionPolicy: Unsupported value: "x": supported values: "PreemptLowerPriority", "Never"'],
    ),
    (
        {
            "topologySpreadConstraints": [
                {"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule"}
            ]
        },
        ["spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"],
    ),
    (
        {"overhead": {"cpu": "-1"}},
        ['spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0'],
    ),
    ({"schedulerName": "Any Thing"}, []),
]


@pytest.mark.parametrize(("spec", "expected"), POD_REFUSED)
def test_a_pod_is_refused_with_these_causes(
    life: SimpleNamespace, spec: dict[str, Any], expected: list[str]
) -> None:
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}
    assert life.problems(life.resource("pods"), pod) == expected


def test_a_request_for_a_certificate_is_decided_through_approval(life: SimpleNamespace) -> None:
    requests = life.resource("certificatesigningrequests", "certificates.k8s.io")
    made = life.created(requests, {"metadata": {"name": "x"}, **request()})
    yes = {"type": "Approved", "status": "True", "reason": "r"}
    asked = {**made, "status": {"conditions": [yes], "certificate": "QQ=="}}
    assert "certificate" not in life.updated(requests, made, asked, "approval")["status"]
    assert "conditions" not in life.updated(requests, made, asked, "status")["status"]
    assert "conditions" not in life.updated(requests, made, asked)["status"]
    approved = life.updated(requests, made, asked, "approval")
    assert approved["status"]["conditions"] == [
        {**yes, "lastTransitionTime": life.now, "lastUpdateTime": life.now}
    ]
    assert life.change_problems(requests, approved, {**approved, "status": {}}, "approval") == [
        'status.conditions: Forbidden: updates may not remove a condition of type "Approved"'
    ]


def test_the_numbers_of_a_status_fit_together(life: SimpleNamespace) -> None:
    deployments = life.resource("deployments", "apps")
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    made = life.created(deployments, {"metadata": {"name": "x"}, "spec": spec})
    too_many = {**made, "status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": 0}}
    assert life.change_problems(deployments, made, too_many, "status") == [
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
    ]
    none = {**made, "status": {"replicas": -1}}
    assert life.change_problems(deployments, made, none, "status")[-1] == (
        "status.updatedReplicas: Invalid value: 0: cannot be greater than status.replicas"
    )


def test_a_service_of_the_kind_load_balancer_local_has_a_port_for_health_checks(
    life: SimpleNamespace,
) -> None:
    services = life.resource("services")
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]}
    made = life.created(services, {"metadata": {"name": "x"}, "spec": spec})
    assert made["spec"]["healthCheckNodePort"] >= 30000
    cluster = {**made, "spec": {**made["spec"], "externalTrafficPolicy": "Cluster"}}
    assert "healthCheckNodePort" not in life.updated(services, made, cluster)["spec"]
