"""Which node a pod goes to, and what is said when there is none."""

from __future__ import annotations

from typing import Any

from kubesim.scheduler.cache import Cache
from kubesim.scheduler.framework import Decision, Framework, Surroundings
from kubesim.scheduler.model import pod_requests, read_pod
from kubesim.scheduler.preemption import preempt

Object = dict[str, Any]


def node(name: str, *, labels: dict[str, str] | None = None, taints: Any = (), **capacity: str) -> Object:
    allocatable = {"cpu": "4", "memory": "4Gi", "pods": "110"}
    allocatable |= {name.replace("_", "/"): text for name, text in capacity.items()}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": list(taints)},
        "status": {"allocatable": allocatable},
    }


def pod(name: str, *, requests: dict[str, str] | None = None, **spec: Any) -> Object:
    metadata = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "labels": spec.pop("labels", {}),
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    container = {"name": "c", "image": "i", "resources": {"requests": requests or {}}}
    return {"metadata": metadata, "spec": {"containers": [container], **spec}}


def world(*objects: Object) -> Cache:
    """A cache of these nodes and (with a nodeName) pods."""
    cache = Cache()
    for one in objects:
        if "containers" in one["spec"]:
            cache.put_pod(one)
        else:
            cache.put_node(one)
    return cache


def decide(cache: Cache, wanted: Object) -> Decision:
    return Framework().decide(read_pod(wanted), cache.nodes)


def message(cache: Cache, wanted: Object) -> str:
    """The whole message of FailedScheduling."""
    framework, info = Framework(), read_pod(wanted)
    decision = framework.decide(info, cache.nodes)
    assert decision.node is None
    return f"{decision.message} {preempt(framework, info, cache.nodes, decision).message}"


def test_a_pod_goes_where_its_requests_fit() -> None:
    cache = world(node("small", cpu="1"), node("large"))
    assert decide(cache, pod("a", requests={"cpu": "3"})).node == "large"


def test_pods_that_are_there_take_room_until_they_have_ended() -> None:
    running = pod("a", requests={"cpu": "3"}, nodeName="n")
    cache = world(node("n"), running)
    assert decide(cache, pod("b", requests={"cpu": "1500m"})).node is None
    cache.put_pod({**running, "status": {"phase": "Succeeded"}})
    assert decide(cache, pod("b", requests={"cpu": "1500m"})).node == "n"


def test_pods_that_arrive_before_their_node_are_counted_when_it_comes() -> None:
    cache = world(pod("a", requests={"cpu": "3"}, nodeName="n"), node("n"))
    assert decide(cache, pod("b", requests={"cpu": "2"})).node is None


def test_a_node_that_changes_keeps_its_pods() -> None:
    cache = world(node("n"), pod("a", requests={"cpu": "3"}, nodeName="n"))
    cache.put_node(node("n", cpu="8"))
    assert decide(cache, pod("b", requests={"cpu": "5"})).node == "n"
    assert decide(cache, pod("b", requests={"cpu": "6"})).node is None


def test_the_message_counts_nodes_by_reason_in_the_words_of_the_real_scheduler() -> None:
    cache = world(node("small", cpu="1"), node("large"), pod("a", requests={"cpu": "3"}, nodeName="large"))
    assert message(cache, pod("b", requests={"cpu": "1500m"})) == (
        "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are "
        "available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    )


def test_without_nodes_the_message_says_so() -> None:
    assert decide(Cache(), pod("a")).message == "no nodes available to schedule pods"


def test_extended_resources_are_counted_whole_and_named() -> None:
    gpu = {"nvidia.com/gpu": "2"}
    cache = world(node("g", **{"nvidia.com_gpu": "3"}), node("c"))
    assert decide(cache, pod("a", requests=gpu)).node == "g"
    cache.put_pod(pod("a", requests=gpu, nodeName="g"))
    assert message(cache, pod("b", requests=gpu)).startswith(
        "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    )


def test_taints_and_cordons_keep_pods_away_that_do_not_tolerate_them() -> None:
    cordoned = node("u")
    cordoned["spec"]["unschedulable"] = True
    cache = world(node("t", taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]), cordoned)
    assert message(cache, pod("a")) == (
        "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to "
        "deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    tolerant = [{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]
    assert decide(cache, pod("b", tolerations=tolerant)).node == "t"
    other_value = [{**tolerant[0], "value": "no"}]
    assert decide(cache, pod("c", tolerations=other_value)).node is None
    everything = [{"operator": "Exists"}]
    assert decide(cache, pod("d", tolerations=everything)).node in ("t", "u")


def test_a_soft_taint_only_matters_where_there_is_a_choice() -> None:
    soft = [{"key": "slow", "effect": "PreferNoSchedule"}]
    assert decide(world(node("a", taints=soft), node("b")), pod("p")).node == "b"
    assert decide(world(node("a", taints=soft)), pod("p")).node == "a"


def affinity(*expressions: Object, fields: Any = ()) -> Object:
    term = {"matchExpressions": list(expressions), "matchFields": list(fields)}
    required = {"nodeSelectorTerms": [term]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def test_selectors_and_required_affinity_filter_with_all_operators() -> None:
    cache = world(
        node("a", labels={"zone": "east", "disk": "ssd", "gen": "3"}),
        node("b", labels={"zone": "west", "gen": "5"}),
    )

    def where(*expressions: Object, fields: Any = ()) -> str | None:
        return decide(cache, pod("p", affinity=affinity(*expressions, fields=fields))).node

    assert decide(cache, pod("p", nodeSelector={"zone": "west"})).node == "b"
    assert where({"key": "disk", "operator": "Exists"}) == "a"
    assert where({"key": "disk", "operator": "DoesNotExist"}) == "b"
    assert where({"key": "gen", "operator": "Gt", "values": ["4"]}) == "b"
    assert where({"key": "gen", "operator": "Lt", "values": ["4"]}) == "a"
    assert where({"key": "zone", "operator": "NotIn", "values": ["west"]}) == "a"
    assert where(fields=[{"key": "metadata.name", "operator": "In", "values": ["b"]}]) == "b"
    assert where() is None  # an empty term matches nothing
    assert message(cache, pod("p", nodeSelector={"zone": "north"})).startswith(
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. no new claims"
    )


def test_preferred_affinity_only_weighs() -> None:
    cache = world(node("a", labels={"zone": "east"}), node("b", labels={"zone": "west"}))
    preference = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["west"]}]}
    wish = [{"weight": 100, "preference": preference}]
    wanted = pod("p", affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": wish}})
    assert decide(cache, wanted).node == "b"
    cache.remove_node("b")
    assert decide(cache, wanted).node == "a"


def beside(kind: str, key: str, **match: str) -> Object:
    term = {"topologyKey": key, "labelSelector": {"matchLabels": match}}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_pod_affinity_puts_pods_beside_others_and_anti_affinity_apart() -> None:
    cache = world(
        node("a", labels={"zone": "east"}),
        node("b", labels={"zone": "west"}),
        pod("db", labels={"app": "db"}, nodeName="b"),
    )
    assert decide(cache, pod("near", affinity=beside("podAffinity", "zone", app="db"))).node == "b"
    far = pod("far", labels={"app": "x"}, affinity=beside("podAntiAffinity", "zone", app="db"))
    assert decide(cache, far).node == "a"
    cache.put_pod({**far, "spec": {**far["spec"], "nodeName": "a"}})
    term = {
        "topologyKey": "zone",
        "labelSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "x"]}]},
    }
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert message(cache, pod("nowhere", affinity=apart)) == (
        "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. no new claims to deallocate, "
        "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    )
    lonely = pod("lonely", labels={"app": "db"}, affinity=beside("podAntiAffinity", "zone", app="db"))
    assert decide(cache, lonely).node is None  # "far" does not want a db in the east, and the west has one


def test_the_first_pod_that_wants_its_own_kind_beside_it_may_start_anywhere() -> None:
    cache = world(node("a", labels={"zone": "east"}))
    first = pod("p", labels={"app": "x"}, affinity=beside("podAffinity", "zone", app="x"))
    assert decide(cache, first).node == "a"
    stranger = pod("q", labels={"app": "y"}, affinity=beside("podAffinity", "zone", app="x"))
    assert "1 node(s) didn't match pod affinity rules" in message(cache, stranger)


def test_spread_constraints_keep_the_skew() -> None:
    spread = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}},
    }
    cache = world(node("a", labels={"zone": "east"}), node("b", labels={"zone": "west"}, pods="1"))
    for name in ("p1", "p2", "p3"):
        wanted = pod(name, labels={"app": "x"}, topologySpreadConstraints=[spread])
        chosen = decide(cache, wanted).node
        assert chosen is not None
        cache.put_pod({**wanted, "spec": {**wanted["spec"], "nodeName": chosen}})
    assert len(cache.nodes["b"].pods) == 1
    assert message(cache, pod("p4", labels={"app": "x"}, topologySpreadConstraints=[spread])) == (
        "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't match pod topology spread constraints. no new "
        "claims to deallocate, preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    )


def test_host_ports_collide_only_on_one_address() -> None:
    def with_port(name: str, ip: str, **spec: Any) -> Object:
        wanted = pod(name, **spec)
        wanted["spec"]["containers"][0]["ports"] = [{"hostPort": 80, "hostIP": ip, "containerPort": 80}]
        return wanted

    cache = world(node("n"), with_port("a", "127.0.0.2", nodeName="n"))
    assert decide(cache, with_port("b", "127.0.0.3")).node == "n"
    assert decide(cache, with_port("c", "127.0.0.2")).node is None
    assert decide(cache, with_port("d", "0.0.0.0")).node is None


def test_a_pod_of_higher_priority_evicts_the_fewest_of_the_least_important() -> None:
    cache = world(
        node("n"),
        pod("low-1", requests={"cpu": "2"}, priority=1, nodeName="n"),
        pod("low-2", requests={"cpu": "2"}, priority=2, nodeName="n"),
    )
    framework = Framework()
    wanted = read_pod(pod("high", requests={"cpu": "2"}, priority=10))
    decision = framework.decide(wanted, cache.nodes)
    found = preempt(framework, wanted, cache.nodes, decision)
    assert (found.node, [victim.name for victim in found.victims]) == ("n", ["low-1"])
    assert decision.message == "0/1 nodes are available: 1 Insufficient cpu."
    never = read_pod(pod("meek", requests={"cpu": "2"}, priority=10, preemptionPolicy="Never"))
    assert preempt(framework, never, cache.nodes, decision).victims == ()


def test_the_emptier_node_is_preferred_and_equals_take_turns() -> None:
    cache = world(node("a"), node("b"), pod("x", requests={"cpu": "2"}, nodeName="a"))
    assert decide(cache, pod("p", requests={"cpu": "1"})).node == "b"
    even, framework = world(node("a"), node("b")), Framework()
    assert {framework.decide(read_pod(pod("p")), even.nodes).node for _ in range(4)} == {"a", "b"}


def test_a_pod_needs_what_its_containers_or_its_largest_init_container_need() -> None:
    def container(cpu: str, **more: Any) -> Object:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    assert pod_requests({"containers": [container("1"), container("500m")]})["cpu"] == 1500
    inits = [container("200m", restartPolicy="Always"), container("4")]
    found = pod_requests(
        {"containers": [container("1")], "initContainers": inits, "overhead": {"cpu": "100m"}}
    )
    assert found["cpu"] == 4200 + 100  # the init container beside the sidecar that started before it
    assert found["pods"] == 1


def test_a_namespace_selector_finds_namespaces_by_their_labels() -> None:
    spaces = {"default": {}, "team": {"env": "prod"}}
    other = pod("db", nodeName="a", labels={"app": "db"})
    other["metadata"]["namespace"] = "team"
    cache = world(node("a"), node("b"), other)

    def chosen(**where: Any) -> str | None:
        term = {
            "labelSelector": {"matchLabels": {"app": "db"}},
            "topologyKey": "kubernetes.io/hostname",
            **where,
        }
        required = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
        wanted = read_pod(pod("web", affinity={"podAffinity": required}))
        return Framework(Surroundings(spaces=spaces)).decide(wanted, cache.nodes).node

    assert chosen(namespaceSelector={"matchLabels": {"env": "prod"}}) == "a"
    assert chosen(namespaceSelector={}) == "a"
    assert chosen(namespaces=["team"]) == "a"
    assert chosen(namespaceSelector={"matchLabels": {"env": "test"}}) is None
    assert chosen() is None


def test_room_that_was_made_for_an_important_pod_is_not_taken_by_a_lesser_one() -> None:
    cache = world(node("n"))
    waiting = read_pod(pod("vip", requests={"cpu": "3"}, priority=10))
    cache.nominate(waiting, "n")
    framework = Framework()

    def chosen(wanted: Object) -> str | None:
        return framework.decide(read_pod(wanted), cache.nodes, cache.nominated).node

    assert chosen(pod("small", requests={"cpu": "1"}, priority=1)) == "n"
    assert chosen(pod("lesser", requests={"cpu": "2"}, priority=1)) is None
    assert chosen(pod("equal", requests={"cpu": "2"}, priority=10)) is None
    assert chosen(pod("greater", requests={"cpu": "2"}, priority=11)) == "n"
    assert chosen(pod("vip", requests={"cpu": "3"}, priority=10)) == "n"
    cache.withdraw("uid-vip")
    assert chosen(pod("lesser", requests={"cpu": "2"}, priority=1)) == "n"
