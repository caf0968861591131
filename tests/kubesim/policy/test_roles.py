"""Who may do what: roles, bindings, the words of a refusal, and that nobody gives away what they do not have."""

from __future__ import annotations

from typing import Any

import pytest

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.auth import Attributes
from kubesim.apiserver.requests import User
from kubesim.errors import StatusError
from kubewire.client import Client
from kubewire.errors import ApiError, Forbidden, NotFound
from kubewire.requests import Request
from kubewire.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    NAMESPACES,
    NODES,
    PODS,
    ROLE_BINDINGS,
    ROLES,
    SECRETS,
    SELF_SUBJECT_ACCESS_REVIEWS,
    Resource,
)

from .conftest import As

pytestmark = pytest.mark.anyio

RULES_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False
)


def rule(verbs: str, resources: str, group: str = "", **more: Any) -> dict[str, Any]:
    return {"verbs": verbs.split(), "resources": resources.split(), "apiGroups": [group], **more}


async def grant(
    admin: Client,
    who: dict[str, Any],
    *rules: dict[str, Any],
    name: str = "r",
    namespace: str | None = "default",
) -> None:
    role, binding, kind = (ROLES, ROLE_BINDINGS, "Role")
    if namespace is None:
        role, binding, kind = (CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, "ClusterRole")
    await admin.create(role, {"metadata": {"name": name}, "rules": list(rules)}, namespace)
    await bind(admin, who, kind, name, namespace, resource=binding)


async def bind(
    client: Client,
    who: dict[str, Any],
    kind: str,
    role: str,
    namespace: str | None = "default",
    *,
    resource: Resource = ROLE_BINDINGS,
) -> None:
    ref = {"kind": kind, "name": role, "apiGroup": "rbac.authorization.k8s.io"}
    await client.create(resource, {"metadata": {"name": role}, "roleRef": ref, "subjects": [who]}, namespace)


def user(name: str) -> dict[str, Any]:
    return {"kind": "User", "name": name}


async def refusal(call: Any) -> str:
    with pytest.raises(Forbidden) as caught:
        await call
    assert caught.value.message is not None
    return str(caught.value.message)


async def test_who_is_bound_to_nothing_is_refused_in_the_words_of_kubernetes(as_user: As) -> None:
    bob = as_user("bob")
    assert await refusal(bob.list(PODS, "default")) == (
        'pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "default"'
    )
    assert await refusal(bob.get(NODES, "n")) == (
        'nodes "n" is forbidden: User "bob" cannot get resource "nodes" in API group "" at the cluster scope'
    )


async def test_a_role_counts_from_the_moment_it_is_bound_until_it_goes(admin: Client, as_user: As) -> None:
    bob = as_user("bob")
    await grant(admin, user("bob"), rule("get list", "configmaps"))
    assert (await bob.list(CONFIG_MAPS, "default")).items == []
    await refusal(bob.list(CONFIG_MAPS, "kube-system"))
    await refusal(bob.list(CONFIG_MAPS))
    await admin.delete(ROLE_BINDINGS, "r", "default")
    await refusal(bob.list(CONFIG_MAPS, "default"))


async def test_a_missing_role_is_named(admin: Client, as_user: As) -> None:
    await grant(admin, user("bob"), rule("get", "pods"))
    await admin.delete(ROLES, "r", "default")
    assert (await refusal(as_user("bob").list(PODS, "default"))).endswith(
        'in the namespace "default": RBAC: role.rbac.authorization.k8s.io "r" not found'
    )


async def test_names_are_exact_and_lists_need_the_field_selector(admin: Client, as_user: As) -> None:
    bob = as_user("bob")
    await grant(admin, user("bob"), rule("get list", "secrets", resourceNames=["mine"]))
    with pytest.raises(NotFound):
        await bob.get(SECRETS, "mine", "default")
    await refusal(bob.get(SECRETS, "other", "default"))
    await refusal(bob.list(SECRETS, "default"))
    assert (await bob.list(SECRETS, "default", field_selector="metadata.name=mine")).items == []
    assert 'secrets "other" is forbidden' in await refusal(
        bob.list(SECRETS, "default", field_selector="metadata.name=other")
    )


@pytest.mark.parametrize(
    ("resources", "asked", "may"),
    [
        ("pods", "pods", True),
        ("pods", "pods/log", False),
        ("pods/log", "pods/log", True),
        ("pods/log", "pods", False),
        ("*/log", "pods/log", True),
        ("*/log", "pods/exec", False),
        ("*", "pods/exec", True),
    ],
)
async def test_subresources(api: ApiServer, admin: Client, resources: str, asked: str, may: bool) -> None:
    await grant(admin, user("bob"), rule("get", resources))
    resource, _, sub = asked.partition("/")
    what = Attributes(verb="get", path="", resource=resource, subresource=sub, namespace="default", name="x")
    assert api.authorizer.decide(User(name="bob"), what).allowed is may


async def test_groups_service_accounts_and_cluster_bindings(admin: Client, as_user: As) -> None:
    await grant(admin, {"kind": "Group", "name": "team"}, rule("list", "nodes"), name="a", namespace=None)
    await grant(admin, {"kind": "ServiceAccount", "name": "robot"}, rule("list", "pods"), name="b")
    assert (await as_user("anybody", "team").list(NODES)).items == []
    assert (await as_user("system:serviceaccount:default:robot").list(PODS, "default")).items == []
    await refusal(as_user("system:serviceaccount:other:robot").list(PODS, "default"))


async def test_paths_that_are_no_resource(admin: Client, as_user: As) -> None:
    async def status(client: Client, path: str) -> int:
        return (await client.transport.send(Request(method="GET", path=path), timeout=5)).status

    bob = as_user("bob")
    assert [await status(bob, path) for path in ("/version", "/api", "/apis/apps", "/livez")] == [200] * 4
    assert await status(bob, "/metrics") == 403
    await grant(
        admin, user("bob"), {"verbs": ["get"], "nonResourceURLs": ["/met*"]}, name="m", namespace=None
    )
    assert await status(bob, "/metrics") == 200


async def test_view_edit_and_admin(admin: Client, as_user: As) -> None:
    for role in ("view", "edit", "admin"):
        await bind(admin, user(role), "ClusterRole", role)
    view, edit, boss = (as_user(role) for role in ("view", "edit", "admin"))
    one = {"metadata": {"name": "one"}}
    assert (await view.list(PODS, "default")).items == []
    await refusal(view.list(SECRETS, "default"))
    await refusal(view.create(CONFIG_MAPS, one, "default"))
    await edit.create(CONFIG_MAPS, one, "default")
    assert (await edit.list(SECRETS, "default")).items == []
    await refusal(edit.create(ROLES, {**one, "rules": []}, "default"))
    await boss.create(ROLES, {**one, "rules": [rule("get", "pods")]}, "default")
    assert (await boss.get(NAMESPACES, "default"))["metadata"]["name"] == "default"
    await refusal(boss.get(NAMESPACES, "kube-system"))


async def test_nobody_grants_what_they_do_not_have(admin: Client, as_user: As) -> None:
    await bind(admin, user("boss"), "ClusterRole", "admin")
    boss = as_user("boss", "team")
    role = {"metadata": {"name": "x"}, "rules": [rule("get list", "nodes pods"), rule("get", "pods")]}
    assert await refusal(boss.create(ROLES, role, "default")) == (
        'roles.rbac.authorization.k8s.io "x" is forbidden: user "boss" (groups=["team" "system:authenticated"]) '
        "is attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["nodes"], Verbs:["get" "list"]}'
    )
    assert '{NonResourceURLs:["*"], Verbs:["*"]}' in await refusal(
        bind(boss, user("x"), "ClusterRole", "cluster-admin")
    )
    await bind(boss, user("x"), "ClusterRole", "view")
    with pytest.raises(NotFound):
        await bind(boss, user("x"), "ClusterRole", "nothing")


async def test_escalate_and_bind_allow_it(admin: Client, as_user: As) -> None:
    group = "rbac.authorization.k8s.io"
    await grant(
        admin,
        user("boss"),
        rule("create escalate", "roles", group),
        rule("create", "rolebindings", group),
        rule("bind", "clusterroles", group, resourceNames=["cluster-admin"]),
    )
    boss = as_user("boss")
    await boss.create(ROLES, {"metadata": {"name": "x"}, "rules": [rule("*", "*")]}, "default")
    await bind(boss, user("x"), "ClusterRole", "cluster-admin")
    await refusal(bind(boss, user("x"), "ClusterRole", "system:node"))


async def test_an_apply_that_creates_needs_create(admin: Client, as_user: As) -> None:
    await grant(admin, user("bob"), rule("patch get", "configmaps"))
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}}
    bob = as_user("bob")
    text = await refusal(bob.apply(CONFIG_MAPS, body, "default", field_manager="t"))
    assert text.startswith('configmaps "c" is forbidden: User "bob" cannot create resource')
    await admin.create(CONFIG_MAPS, {"metadata": {"name": "c"}}, "default")
    await bob.apply(CONFIG_MAPS, body, "default", field_manager="t")


async def test_impersonation_is_a_right_as_others(api: ApiServer, admin: Client) -> None:
    await grant(admin, user("bob"), rule("impersonate", "users", resourceNames=["carla"]), namespace=None)
    bob = User(name="bob", groups=("system:authenticated",))
    assert api.authenticate({"impersonate-user": "carla"}, bob).name == "carla"
    with pytest.raises(
        StatusError, match='users "dora" is forbidden: User "bob" cannot impersonate resource'
    ):
        api.authenticate({"impersonate-user": "dora"}, bob)
    with pytest.raises(StatusError, match='groups "system:masters" is forbidden'):
        api.authenticate({"impersonate-user": "carla", "impersonate-group": "system:masters"}, bob)


async def test_reviews_say_why(admin: Client, as_user: As) -> None:
    await grant(admin, user("bob"), rule("list", "pods"))
    spec = {"resourceAttributes": {"namespace": "default", "verb": "list", "resource": "pods"}}
    bob = as_user("bob")
    found = await bob.create(SELF_SUBJECT_ACCESS_REVIEWS, {"spec": spec})
    assert found["status"] == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "r/default" of Role "r" to User "bob"',
    }
    rules = (await bob.create(RULES_REVIEWS, {"spec": {"namespace": "default"}}))["status"]
    assert {"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]} in rules["resourceRules"]
    assert rules["incomplete"] is False
    with pytest.raises(ApiError):
        await bob.create(RULES_REVIEWS, {"spec": {}})


async def test_a_start_mends_the_default_roles_and_leaves_what_was_added(
    api: ApiServer, admin: Client
) -> None:
    role = await admin.get(CLUSTER_ROLES, "system:aggregate-to-view")
    extra = rule("get", "widgets", "example.com")
    await admin.replace(CLUSTER_ROLES, {**role, "rules": [extra]})
    await admin.delete(CLUSTER_ROLE_BINDINGS, "system:discovery")
    left = await admin.get(CLUSTER_ROLES, "system:heapster")
    left["metadata"]["annotations"] = {"rbac.authorization.kubernetes.io/autoupdate": "false"}
    await admin.replace(CLUSTER_ROLES, {**left, "rules": []})
    await api.start()
    rules = (await admin.get(CLUSTER_ROLES, "system:aggregate-to-view"))["rules"]
    assert rules[0] == extra
    assert len(rules) > 50
    assert await admin.get(CLUSTER_ROLE_BINDINGS, "system:discovery")
    assert not (await admin.get(CLUSTER_ROLES, "system:heapster")).get("rules")
    before = api.store.revision
    await api.start()
    assert api.store.revision == before
