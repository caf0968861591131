"""Services, secrets, config maps, namespaces, nodes, leases, events: what is particular to each."""

from types import SimpleNamespace
from typing import Any

import pytest

from kubesim.apiserver.kinds import Context, conversion, strategy
from kubesim.errors import StatusError
from kubesim.schema.registry import builtin


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "s"}, "spec": spec}


def test_a_service_gets_an_address_and_the_defaults_of_its_type(life: SimpleNamespace) -> None:
    made = life.created(life.resource("services"), service(ports=[{"port": 80, "targetPort": "http"}]))
    assert made["spec"] == {
        "clusterIP": "10.0.0.2",
        "clusterIPs": ["10.0.0.2"],
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}],
        "sessionAffinity": "None",
        "type": "ClusterIP",
    }
    assert made["status"] == {"loadBalancer": {}}


def test_a_node_port_service_gets_a_port_and_a_headless_one_no_address(life: SimpleNamespace) -> None:
    services = life.resource("services")
    exposed = life.created(services, service(type="NodePort", ports=[{"port": 80}]))["spec"]
    assert exposed["ports"][0] == {"port": 80, "protocol": "TCP", "targetPort": 80, "nodePort": 30003}
    assert exposed["externalTrafficPolicy"] == "Cluster"
    headless = life.created(services, service(clusterIP="None"))["spec"]
    assert headless["clusterIPs"] == ["None"]
    external = life.created(services, service(type="ExternalName", externalName="example.com"))["spec"]
    assert external == {"externalName": "example.com", "sessionAffinity": "None", "type": "ExternalName"}


def test_addresses_are_given_back_and_refused_ones_are_named(life: SimpleNamespace) -> None:
    services = life.resource("services")
    allocator = life.allocator()
    ctx = Context(now=life.now, allocator=allocator)
    made = life.created(services, service(type="NodePort", ports=[{"port": 80}]), ctx)
    strategy(services).release(services, made, ctx)
    assert allocator.released == ["10.0.0.2", 30003]
    with pytest.raises(StatusError) as caught:
        life.created(services, service(clusterIP="10.0.0.66", ports=[{"port": 80}]))
    assert caught.value.code == 422
    assert "provided IP is already allocated" in caught.value.message


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"ports": [{"port": 80}, {"port": 81}]},
            ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
        ),
        (
            {"ports": [{"port": 70000}]},
            [
                "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        ({}, ["spec.ports: Required value"]),
        (
            {"type": "Odd", "ports": [{"port": 80}]},
            [
                'spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", '
                '"LoadBalancer", "NodePort"'
            ],
        ),
    ],
)
def test_a_service_is_refused_with_every_problem(
    life: SimpleNamespace, spec: dict[str, Any], expected: list[str]
) -> None:
    assert life.problems(life.resource("services"), service(**spec)) == expected


def test_the_address_of_a_service_stays(life: SimpleNamespace) -> None:
    services = life.resource("services")
    old = life.created(services, service(type="NodePort", ports=[{"port": 80}]))
    other = {**old, "spec": {**old["spec"], "clusterIP": "10.0.0.77", "clusterIPs": ["10.0.0.77"]}}
    assert life.change_problems(services, old, other) == [
        'spec.clusterIPs[0]: Invalid value: ["10.0.0.77"]: may not change once set'
    ]
    bare = {"metadata": old["metadata"], "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    kept = life.updated(services, old, bare)
    assert kept["spec"] == old["spec"]


def test_a_service_that_is_exposed_no_longer_loses_its_node_ports(life: SimpleNamespace) -> None:
    services = life.resource("services")
    old = life.created(services, service(type="NodePort", ports=[{"port": 80}]))
    allocator = life.allocator()
    ctx = Context(now=life.now, allocator=allocator)
    new = life.updated(services, old, {**old, "spec": {**old["spec"], "type": "ClusterIP"}}, "", ctx)
    assert new["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert "externalTrafficPolicy" not in new["spec"]
    assert allocator.released == [30003]


def test_string_data_of_a_secret_is_written_into_data_and_wins(life: SimpleNamespace) -> None:
    body = {
        "metadata": {"name": "s"},
        "stringData": {"user": "admin", "both": "text"},
        "data": {"both": "b3RoZXI="},
    }
    made = life.created(life.resource("secrets"), body)
    assert made["data"] == {"both": "dGV4dA==", "user": "YWRtaW4="}
    assert made["type"] == "Opaque"
    assert "stringData" not in made


def test_the_type_of_a_secret_implies_keys_and_cannot_change(life: SimpleNamespace) -> None:
    secrets = life.resource("secrets")
    tls = {"metadata": {"name": "t"}, "type": "kubernetes.io/tls", "data": {"tls.crt": ""}}
    assert life.problems(secrets, tls) == ["data[tls.key]: Required value"]
    old = life.created(secrets, {"metadata": {"name": "s"}, "data": {"k": "dg=="}})
    assert life.change_problems(secrets, old, {**old, "type": "kubernetes.io/basic-auth"}) == [
        "data[password]: Required value",
        "data[username]: Required value",
        'type: Invalid value: "kubernetes.io/basic-auth": field is immutable',
    ]


@pytest.mark.parametrize("plural", ["secrets", "configmaps"])
def test_what_is_marked_immutable_refuses_changes(life: SimpleNamespace, plural: str) -> None:
    rt = life.resource(plural)
    old = life.created(rt, {"metadata": {"name": "s"}, "immutable": True, "data": {"k": "dg=="}})
    why = "Forbidden: field is immutable when `immutable` is set"
    assert life.change_problems(rt, old, {**old, "data": {"k": "dw=="}}) == [f"data: {why}"]
    assert life.change_problems(rt, old, {**old, "immutable": False}) == [f"immutable: {why}"]
    assert life.change_problems(rt, old, {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}) == []


def test_config_maps_have_a_size_and_keys_that_are_file_names(life: SimpleNamespace) -> None:
    rt = life.resource("configmaps")
    [problem] = life.problems(rt, {"data": {"k": "a" * (1024 * 1024 + 1)}})
    assert problem.startswith("[]: Too long")
    [problem] = life.problems(rt, {"data": {"k k": "v"}})
    assert problem.startswith('data[k k]: Invalid value: "k k": a valid config key must consist of')


def test_a_namespace_is_born_active_with_its_finalizer_and_its_name_as_a_label(life: SimpleNamespace) -> None:
    namespaces = life.resource("namespaces")
    made = life.created(namespaces, {"metadata": {"name": "n1"}})
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "n1"}
    assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
    assert life.problems(namespaces, {"metadata": {"name": "A.b"}})[0].startswith("metadata.name")
    without = {**made, "spec": {"finalizers": []}}
    assert life.updated(namespaces, made, without)["spec"] == made["spec"]
    assert life.updated(namespaces, made, without, "finalize")["spec"] == {}


def test_a_node_keeps_the_status_that_its_kubelet_brings(life: SimpleNamespace) -> None:
    nodes = life.resource("nodes")
    made = life.created(nodes, {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "8"}}})
    assert made["status"]["allocatable"] == {"cpu": "8"}
    cut = life.updated(nodes, made, {**made, "spec": {"podCIDR": "10.1.0.0/24"}})
    assert cut["spec"]["podCIDRs"] == ["10.1.0.0/24"]
    other = {**cut, "spec": {**cut["spec"], "podCIDR": "10.2.0.0/24"}}
    assert life.change_problems(nodes, cut, other) == [
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid'
    ]


def test_a_lease_needs_a_duration_and_its_version(life: SimpleNamespace) -> None:
    leases = life.resource("leases", "coordination.k8s.io")
    assert life.problems(leases, {"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 0}}) == [
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"
    ]
    assert strategy(leases).create_on_update
    assert not strategy(leases).unconditional_update


def test_events_belong_to_the_namespace_of_what_they_are_about(life: SimpleNamespace) -> None:
    events = life.resource("events")
    about = {"kind": "Pod", "namespace": "other", "name": "p"}
    assert life.problems(events, {"metadata": {"name": "e"}, "involvedObject": about}) == [
        'involvedObject.namespace: Invalid value: "other": does not match event.namespace'
    ]


def test_the_newer_events_ask_for_more(life: SimpleNamespace) -> None:
    events = life.resource("events", "events.k8s.io")
    body = {
        "metadata": {"name": "e4"},
        "regarding": {"kind": "Pod", "namespace": "n", "name": "p"},
        "type": "Odd",
        "eventTime": "2020-01-01T00:00:00.000001Z",
    }
    fields = [problem.split(":")[0] for problem in life.problems(events, body)]
    assert fields == [
        "action",
        "reason",
        "reportingController",
        "reportingController",
        "reportingController",
        "reportingInstance",
        "type",
    ]


def test_an_event_has_two_faces_that_say_the_same() -> None:
    registry = builtin()
    newer, older = registry.find("events.k8s.io", "v1", "events"), registry.find("", "v1", "events")
    assert newer is not None
    assert conversion.storage_type(newer, registry) is older
    stored = {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p"},
        "message": "started it",
        "reason": "Started",
        "source": {"component": "me"},
        "count": 1,
        "eventTime": None,
        "firstTimestamp": "2020-01-01T00:00:00Z",
        "lastTimestamp": None,
        "reportingComponent": "",
        "reportingInstance": "",
    }
    shown = conversion.from_storage(newer, stored)
    assert shown["apiVersion"] == "events.k8s.io/v1"
    assert shown["note"] == "started it"
    assert shown["deprecatedSource"] == {"component": "me"}
    assert "reportingController" not in shown
    assert conversion.to_storage(newer, shown) == stored


def test_an_autoscaler_of_v1_is_kept_as_v2_and_comes_back() -> None:
    registry = builtin()
    one, two = (registry.find("autoscaling", version, "horizontalpodautoscalers") for version in ("v1", "v2"))
    assert one is not None
    assert conversion.storage_type(one, registry) is two
    body = {
        "kind": "HorizontalPodAutoscaler",
        "apiVersion": "autoscaling/v1",
        "metadata": {"name": "h"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"kind": "Deployment", "name": "d"},
            "targetCPUUtilizationPercentage": 50,
        },
        "status": {"currentReplicas": 0, "desiredReplicas": 0},
    }
    stored = conversion.to_storage(one, body)
    assert stored["spec"]["metrics"] == [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
        }
    ]
    assert conversion.from_storage(one, stored) == body
