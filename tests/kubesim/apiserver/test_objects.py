"""Objects through the API: created, read, changed, deleted, as Kubernetes does it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
import pytest

from kubesim.apiserver.app import ApiServer
from kubewire.client import Client
from kubewire.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
)
from kubewire.requests import PatchType, Request
from kubewire.resources import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, PODS, SECRETS, SERVICES, Resource

from .conftest import configmap, pod

pytestmark = pytest.mark.anyio

BINDING = {"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "n"}}


async def test_a_created_object_is_read_back_as_it_was_answered(client: Client) -> None:
    created = await client.create(CONFIG_MAPS, configmap("a", k="v"), "default")
    assert created["kind"] == "ConfigMap"
    assert created["metadata"]["uid"]
    assert await client.get(CONFIG_MAPS, "a", "default") == created


async def test_a_name_is_taken_once_and_what_is_not_there_is_said(client: Client) -> None:
    await client.create(CONFIG_MAPS, configmap("a"), "default")
    with pytest.raises(AlreadyExists, match='configmaps "a" already exists'):
        await client.create(CONFIG_MAPS, configmap("a"), "default")
    with pytest.raises(NotFound, match='configmaps "b" not found'):
        await client.get(CONFIG_MAPS, "b", "default")
    with pytest.raises(NotFound, match='namespaces "nowhere" not found'):
        await client.create(CONFIG_MAPS, configmap("a"), "nowhere")


async def test_an_old_version_cannot_replace_a_newer_one(client: Client) -> None:
    created = await client.create(CONFIG_MAPS, configmap("a", k="1"), "default")
    await client.replace(CONFIG_MAPS, {**created, "data": {"k": "2"}}, "default")
    with pytest.raises(Conflict, match="the object has been modified"):
        await client.replace(CONFIG_MAPS, {**created, "data": {"k": "3"}}, "default")


async def test_a_write_that_changes_nothing_keeps_the_version(client: Client, api: ApiServer) -> None:
    created = await client.create(CONFIG_MAPS, configmap("a", k="1"), "default")
    revision = api.store.revision
    patched = await client.patch(CONFIG_MAPS, "a", {"data": {"k": "1"}}, "default")
    assert patched["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]
    assert api.store.revision == revision


async def test_patches_that_race_are_all_applied(client: Client) -> None:
    await client.create(CONFIG_MAPS, configmap("a"), "default")
    await asyncio.gather(
        *(client.patch(CONFIG_MAPS, "a", {"data": {f"k{n}": "v"}}, "default") for n in range(10))
    )
    found = await client.get(CONFIG_MAPS, "a", "default")
    assert len(found["data"]) == 10


async def test_json_and_strategic_patches_and_apply_reach_the_object(client: Client) -> None:
    await client.create(PODS, pod("p"), "default")
    operations = [{"op": "add", "path": "/metadata/labels", "value": {"a": "1"}}]
    await client.patch(PODS, "p", operations, "default", type=PatchType.JSON)
    change = {"spec": {"containers": [{"name": "main", "image": "other"}]}}
    await client.patch(PODS, "p", change, "default", type=PatchType.STRATEGIC)
    applied = {"metadata": {"name": "p", "labels": {"b": "2"}}}
    found = await client.apply(PODS, applied, "default", field_manager="tests")
    assert found["metadata"]["labels"] == {"a": "1", "b": "2"}
    assert found["spec"]["containers"][0]["image"] == "other"
    assert {entry["manager"] for entry in found["metadata"]["managedFields"]} >= {"tests"}


async def test_an_applied_scale_is_owned_on_the_object(client: Client) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("p")["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template, "replicas": 1}
    applied = {"metadata": {"name": "d"}, "spec": spec}
    await client.apply(DEPLOYMENTS, applied, "default", field_manager="first")
    scale = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "d"},
        "spec": {"replicas": 3},
    }
    path = DEPLOYMENTS.path("default", "d", "scale")
    request = Request(
        method="PATCH",
        path=path,
        query=(("fieldManager", "second"),),
        headers={"Content-Type": "application/apply-patch+yaml"},
        body=orjson.dumps(scale),
    )
    with pytest.raises(Conflict, match=r'conflict with "first": .spec.replicas'):
        await client.raw(request, 5)
    forced = replace(request, query=(("fieldManager", "second"), ("force", "true")))
    await client.raw(forced, 5)
    found = await client.get(DEPLOYMENTS, "d", "default")
    assert found["spec"]["replicas"] == 3
    owned = [one for one in found["metadata"]["managedFields"] if one["manager"] == "second"]
    assert [(one["subresource"], one["apiVersion"], one["fieldsV1"]) for one in owned] == [
        ("scale", "apps/v1", {"f:spec": {"f:replicas": {}}})
    ]


async def test_an_apply_that_names_another_object_creates_none(client: Client) -> None:
    applied = {"metadata": {"name": "c", "uid": "1"}}
    with pytest.raises(Conflict, match="specified uid 1, and no existing object was found"):
        await client.apply(CONFIG_MAPS, applied, "default", field_manager="tests")


async def test_an_invalid_object_is_refused_with_the_field(client: Client) -> None:
    with pytest.raises(Invalid, match=r"metadata\.name"):
        await client.create(CONFIG_MAPS, configmap("Not_A_Name"), "default")
    with pytest.raises(BadRequest, match="cannot unmarshal number"):
        await client.create(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"k": 1}}, "default")


async def test_a_dry_run_answers_and_stores_nothing(client: Client) -> None:
    answer = await client.create(CONFIG_MAPS, configmap("a"), "default", dry_run=True)
    assert answer["metadata"]["uid"]
    assert "resourceVersion" not in answer["metadata"]
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "a", "default")


async def test_generated_names_differ(client: Client) -> None:
    obj = {"metadata": {"generateName": "gen-"}}
    names = {(await client.create(CONFIG_MAPS, obj, "default"))["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("gen-") and len(name) == 9 for name in names)


async def test_pages_are_one_list_whatever_happens_in_between(client: Client) -> None:
    for name in "abcde":
        await client.create(SECRETS, {"metadata": {"name": name}}, "default")
    assert [s["metadata"]["name"] for s in (await client.list(SECRETS, page_size=2)).items] == list("abcde")


async def test_selectors_choose_by_label_and_by_field(client: Client) -> None:
    for name, label in (("a", "x"), ("b", "y"), ("c", "x")):
        obj = {"metadata": {"name": name, "labels": {"l": label}}}
        await client.create(CONFIG_MAPS, obj, "default")

    async def names(**selectors: str) -> list[str]:
        listed = await client.list(CONFIG_MAPS, "default", **selectors)  # type: ignore[arg-type]
        return [obj["metadata"]["name"] for obj in listed.items]

    assert await names(label_selector="l in (x)") == ["a", "c"]
    assert await names(label_selector="l!=x") == ["b"]
    assert await names(field_selector="metadata.name=b") == ["b"]
    assert await names(label_selector="l=x", field_selector="metadata.name!=a") == ["c"]
    with pytest.raises(BadRequest):
        await names(label_selector="l in x")


async def test_deletion_waits_for_finalizers_and_ends_with_the_last_one(client: Client) -> None:
    obj = {"metadata": {"name": "a", "finalizers": ["example.com/hold"]}}
    await client.create(CONFIG_MAPS, obj, "default")
    marked = await client.delete(CONFIG_MAPS, "a", "default")
    assert marked["metadata"]["deletionTimestamp"]
    assert (await client.get(CONFIG_MAPS, "a", "default"))["metadata"]["finalizers"]
    await client.patch(CONFIG_MAPS, "a", {"metadata": {"finalizers": None}}, "default")
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "a", "default")


async def test_deletion_keeps_what_a_precondition_does_not_mean(client: Client) -> None:
    created = await client.create(CONFIG_MAPS, configmap("a"), "default")
    with pytest.raises(Conflict, match="UID in the precondition"):
        await client.delete(CONFIG_MAPS, "a", "default", uid="11111111-1111-1111-1111-111111111111")
    await client.delete(CONFIG_MAPS, "a", "default", uid=created["metadata"]["uid"])


async def test_a_pod_on_a_node_is_marked_and_goes_with_grace_zero(client: Client) -> None:
    await client.create(PODS, pod("p", nodeName="n"), "default")
    marked = await client.delete(PODS, "p", "default")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (await client.get(PODS, "p", "default"))["metadata"]["deletionTimestamp"]
    await client.delete(PODS, "p", "default", grace_period=0)
    with pytest.raises(NotFound):
        await client.get(PODS, "p", "default")


async def test_a_pod_that_was_never_scheduled_goes_at_once(client: Client) -> None:
    await client.create(PODS, pod("p"), "default")
    await client.delete(PODS, "p", "default")
    with pytest.raises(NotFound):
        await client.get(PODS, "p", "default")


async def test_a_collection_is_deleted_by_selector(client: Client) -> None:
    for name, label in (("a", "x"), ("b", "y")):
        await client.create(CONFIG_MAPS, {"metadata": {"name": name, "labels": {"l": label}}}, "default")
    await client.delete_collection(CONFIG_MAPS, "default", label_selector="l=x")
    assert [o["metadata"]["name"] for o in (await client.list(CONFIG_MAPS, "default")).items] == ["b"]


async def test_a_binding_gives_a_pod_its_node_once(client: Client) -> None:
    await client.create(PODS, pod("p"), "default")
    await client.create(PODS, BINDING, "default", name="p", subresource="binding")
    found = await client.get(PODS, "p", "default")
    assert found["spec"]["nodeName"] == "n"
    assert found["status"]["conditions"][0]["type"] == "PodScheduled"
    with pytest.raises(Conflict, match="already assigned to node"):
        await client.create(PODS, BINDING, "default", name="p", subresource="binding")


async def test_status_is_written_apart_from_the_rest(client: Client) -> None:
    await client.create(PODS, pod("p"), "default")
    change = {"status": {"phase": "Running"}, "spec": {"nodeName": "x"}}
    changed = await client.patch(PODS, "p", change, "default", subresource="status")
    assert changed["status"]["phase"] == "Running"
    assert "nodeName" not in changed["spec"]
    ignored = await client.patch(PODS, "p", {"status": {"phase": "Failed"}}, "default")
    assert ignored["status"]["phase"] == "Running"


async def test_a_pod_gets_what_admission_gives(client: Client) -> None:
    created = await client.create(PODS, pod("p"), "default")
    spec = created["spec"]
    assert spec["serviceAccountName"] == "default"
    assert spec["priority"] == 0
    assert [t["key"] for t in spec["tolerations"]] == [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ]
    assert spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["path"] == "token"
    assert spec["containers"][0]["volumeMounts"][0]["mountPath"].endswith("/serviceaccount")


async def test_a_pod_waits_a_moment_for_the_service_account_of_a_new_namespace(client: Client) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "new"}})
    creating = asyncio.ensure_future(client.create(PODS, pod("p"), "new"))
    await asyncio.sleep(0)
    accounts = Resource("", "v1", "serviceaccounts", "ServiceAccount")
    await client.create(accounts, {"metadata": {"name": "default"}}, "new")
    assert (await creating)["spec"]["serviceAccountName"] == "default"


async def test_a_pod_of_an_unknown_service_account_is_refused(client: Client) -> None:
    with pytest.raises(Forbidden, match='serviceaccount "ghost" not found'):
        await client.create(PODS, pod("p", serviceAccountName="ghost"), "default")


async def test_a_namespace_ends_when_its_controller_lets_it_go(client: Client) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "gone"}})
    marked = await client.delete(NAMESPACES, "gone")
    assert marked["status"]["phase"] == "Terminating"
    with pytest.raises(Forbidden, match="because it is being terminated") as caught:
        await client.create(CONFIG_MAPS, configmap("a"), "gone")
    assert caught.value.details["causes"][0]["reason"] == "NamespaceTerminating"
    final = {**await client.get(NAMESPACES, "gone"), "spec": {}}
    await client.replace(NAMESPACES, final, subresource="finalize")
    with pytest.raises(NotFound):
        await client.get(NAMESPACES, "gone")


async def test_the_first_namespaces_cannot_be_deleted(client: Client) -> None:
    with pytest.raises(Forbidden, match="this namespace may not be deleted"):
        await client.delete(NAMESPACES, "kube-system")


async def test_services_get_addresses_and_give_them_back(client: Client) -> None:
    spec = {"clusterIP": "10.96.0.77", "ports": [{"port": 80}]}
    await client.create(SERVICES, {"metadata": {"name": "a"}, "spec": spec}, "default")
    with pytest.raises(Invalid, match="already allocated"):
        await client.create(SERVICES, {"metadata": {"name": "b"}, "spec": spec}, "default")
    await client.delete(SERVICES, "a", "default")
    again = await client.create(SERVICES, {"metadata": {"name": "b"}, "spec": spec}, "default")
    assert again["spec"]["clusterIPs"] == ["10.96.0.77"]


async def test_a_path_that_names_nothing_is_404_and_a_wrong_verb_405(client: Client) -> None:
    for path, code in (("/api/v1/frobs", 404), ("/nowhere", 404), ("/apis/apps/v9/deployments", 404)):
        with pytest.raises(ApiError) as caught:
            await client.raw(Request(method="GET", path=path), 5)
        assert caught.value.code == code
    with pytest.raises(ApiError) as caught:
        await client.raw(Request(method="DELETE", path="/api/v1/namespaces"), 5)
    assert caught.value.code == 405


async def test_tokens_are_issued_and_recognised(client: Client) -> None:
    accounts = Resource("", "v1", "serviceaccounts", "ServiceAccount")
    issued = await client.create(accounts, {}, "default", name="default", subresource="token")
    review = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
    status = (await client.create(review, {"spec": {"token": issued["status"]["token"]}}))["status"]
    assert status["user"]["username"] == "system:serviceaccount:default:default"
    forged = issued["status"]["token"][:-4] + "AAAA"
    status = (await client.create(review, {"spec": {"token": forged}}))["status"]
    assert not status.get("authenticated")
