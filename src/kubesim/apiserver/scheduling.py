"""Binding: the one write by which a pod gets its node."""

from __future__ import annotations

from dataclasses import replace

from kubesim import errors
from kubesim.apiserver.calls import Call
from kubesim.apiserver.core import Core
from kubesim.apiserver.options import WriteOptions, write_options
from kubesim.apiserver.requests import JsonObject, Reply
from kubesim.apiserver.writing import attempt, change_raw, read_as

_KEPT_LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


async def bind(core: Core, call: Call) -> Reply:
    """POST pods/NAME/binding. Raises 404, 409 when the pod has a node, gates, or is being deleted."""
    options = write_options(call.request, "CreateOptions")
    binding = await _admitted(core, call, read_as(call, "", "v1", "Binding", options).obj, options)
    return await _bind(core, call, binding, options)


async def _admitted(core: Core, call: Call, binding: JsonObject, options: WriteOptions) -> JsonObject:
    name = call.name or binding["metadata"].get("name", "")
    tried = attempt(call, "CREATE", options, name, of=("", "v1", "Binding"))
    return await core.admission.ask(core, tried, binding) or binding


async def bind_by_name(core: Core, call: Call) -> Reply:
    """POST bindings: the old way, the pod's name is that of the Binding."""
    options = write_options(call.request, "CreateOptions")
    binding = await _admitted(core, call, read_as(call, "", "v1", "Binding", options).obj, options)
    rt = core.registry.find("", "v1", "pods")
    name = binding["metadata"].get("name")
    if rt is None or not name:
        raise errors.bad_request("name is required")
    route = replace(call.route, plural="pods", name=name)
    return await _bind(core, replace(call, rt=rt, storage=rt, route=route), binding, options)


async def _bind(core: Core, call: Call, binding: JsonObject, options: WriteOptions) -> Reply:
    node = (binding.get("target") or {}).get("name", "")
    if not node:
        raise errors.unclassified("target.name: Required value")
    kind = binding["target"].get("kind") or "Node"
    if kind not in ("", "Node"):
        raise errors.unclassified(
            f'target.kind: Unsupported value: "{kind}": supported values: "Node", "<empty>"'
        )

    def change(pod: JsonObject) -> JsonObject:
        _refuse(call, pod, node, binding)
        return _bound(core, pod, node, binding)

    await change_raw(core, call, change, options)
    success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
    return call.renderer.status(success, 201)


def _refuse(call: Call, pod: JsonObject, node: str, binding: JsonObject) -> None:
    name = pod["metadata"]["name"]
    spec = pod["spec"]

    def conflict(why: str) -> errors.StatusError:
        return errors.conflict("pods/binding", name, why)

    uid = binding["metadata"].get("uid")
    if uid and uid != pod["metadata"]["uid"]:
        raise conflict(
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {pod['metadata']['uid']}"
        )
    if pod["metadata"].get("deletionTimestamp"):
        raise conflict(f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise conflict(f"pod {name} is already assigned to node {errors.quoted(spec['nodeName'])}")
    if spec.get("schedulingGates"):
        raise conflict(f"pod {name} has non-empty .spec.schedulingGates")


def _bound(core: Core, pod: JsonObject, node: str, binding: JsonObject) -> JsonObject:
    meta = dict(pod["metadata"])
    annotations = binding["metadata"].get("annotations")
    if annotations:
        meta["annotations"] = {**(meta.get("annotations") or {}), **annotations}
    target = core.lookup("", "v1", "nodes", f"/{node}")
    if target is not None:
        topology = {
            key: value
            for key, value in (target["metadata"].get("labels") or {}).items()
            if key in _KEPT_LABELS
        }
        if topology:
            meta["labels"] = {**(meta.get("labels") or {}), **topology}
    status = pod.get("status", {})
    condition = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": core.environment.timestamp(),
    }
    conditions = [one for one in status.get("conditions") or () if one.get("type") != "PodScheduled"]
    return {
        **pod,
        "metadata": meta,
        "spec": {**pod["spec"], "nodeName": node},
        "status": {**status, "conditions": [*conditions, condition]},
    }
