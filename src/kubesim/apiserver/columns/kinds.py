"""The columns by kind, in the order of `kubectl get`."""

from __future__ import annotations

from collections.abc import Sequence

from kubesim.apiserver.columns import cells, pods
from kubesim.apiserver.columns.column import (
    AGE,
    CREATED,
    NAME,
    Cell,
    Column,
    flag,
    integer,
    number,
    size,
    switch,
    text,
    wide,
)
from kubesim.apiserver.columns.infrastructure import INFRASTRUCTURE
from kubesim.apiserver.columns.values import (
    NONE,
    UNSET,
    Moment,
    at,
    container_images,
    container_names,
    pod_template,
)
from kubesim.apiserver.selectors import shown_labels, shown_selector
from kubesim.errors import JsonObject


def _names(obj: JsonObject, moment: Moment) -> str:
    return container_names(pod_template(obj))


def _images(obj: JsonObject, moment: Moment) -> str:
    return container_images(pod_template(obj))


def _job_names(obj: JsonObject, moment: Moment) -> str:
    return container_names(at(obj, "spec", "jobTemplate", "spec", "template", "spec", default={}))


def _job_images(obj: JsonObject, moment: Moment) -> str:
    return container_images(at(obj, "spec", "jobTemplate", "spec", "template", "spec", default={}))


def _data(obj: JsonObject, moment: Moment) -> int:
    return len(obj.get("data") or ()) + len(obj.get("binaryData") or ())


def _node_selector(obj: JsonObject, moment: Moment) -> str:
    return shown_labels(at(obj, "spec", "template", "spec", "nodeSelector", default=None))


def _pod_selector(obj: JsonObject, moment: Moment) -> str:
    return shown_selector(at(obj, "spec", "podSelector", default={})) or NONE


def _allowed(key: str) -> Cell:
    def cell(obj: JsonObject, moment: Moment) -> str:
        value = at(obj, "spec", key, default=None)
        return "N/A" if value is None else str(value)

    return cell


def _controller(obj: JsonObject, moment: Moment) -> str:
    owner = next((one for one in obj["metadata"].get("ownerReferences") or () if one.get("controller")), None)
    if owner is None:
        return NONE
    group = owner["apiVersion"].rpartition("/")[0]
    kind = owner["kind"].lower()
    return f"{kind}.{group}/{owner['name']}" if group else f"{kind}/{owner['name']}"


def _class_name(obj: JsonObject, moment: Moment) -> str:
    default = (obj["metadata"].get("annotations") or {}).get("storageclass.kubernetes.io/is-default-class")
    return str(obj["metadata"]["name"]) + (" (default)" if default == "true" else "")


def _service_of(obj: JsonObject, moment: Moment) -> str:
    service = at(obj, "spec", "service", default=None)
    return f"{service.get('namespace', '')}/{service.get('name', '')}" if service else "Local"


_CONTAINERS = (wide("Containers", _names), wide("Images", _images))
_SELECTOR = wide("Selector", cells.selector)
_ROLE_BINDING = (
    NAME,
    Column("Role", cells.role),
    AGE,
    wide("Users", cells.subjects("User")),
    wide("Groups", cells.subjects("Group")),
    wide("ServiceAccounts", cells.subjects("ServiceAccount")),
)
_REPLICAS = (
    NAME,
    integer("Desired", number("spec", "replicas")),
    integer("Current", number("status", "replicas")),
    integer("Ready", number("status", "readyReplicas")),
    AGE,
    *_CONTAINERS,
)
_EVENT = (
    Column("Last Seen", cells.event_last),
    Column("Type", text("type")),
    Column("Reason", text("reason")),
    Column("Object", cells.event_object),
    wide("Subobject", cells.event_subobject),
    wide("Source", cells.event_source),
    Column("Message", cells.event_message),
    wide("First Seen", cells.event_first),
    wide("Count", cells.event_count),
    Column("Name", NAME.cell, format="name", priority=1),
)
_POLICY_BINDING = (
    NAME,
    Column("PolicyName", text("spec", "policyName")),
    Column("ParamRef", cells.param_reference),
    AGE,
)


def _policy(counted: str) -> Sequence[Column]:
    """An admission policy: how many rules it has, and what they take as parameters."""
    count = integer(counted, size("spec", counted.lower()))
    return (NAME, count, Column("ParamKind", cells.param_kind), AGE)


_WEBHOOKS = (NAME, integer("Webhooks", size("webhooks")), AGE)

_CORE: dict[str, Sequence[Column]] = {
    "Pod": (
        NAME,
        Column("Ready", pods.ready),
        Column("Status", pods.status),
        Column("Restarts", pods.restarts),
        AGE,
        wide("IP", pods.address),
        wide("Node", pods.node),
        wide("Nominated Node", pods.nominated),
        wide("Readiness Gates", pods.gates),
    ),
    "Node": (
        NAME,
        Column("Status", cells.node_status),
        Column("Roles", cells.node_roles),
        AGE,
        Column("Version", text("status", "nodeInfo", "kubeletVersion")),
        wide("Internal-IP", cells.node_address("InternalIP")),
        wide("External-IP", cells.node_address("ExternalIP")),
        wide("OS-Image", cells.node_info("osImage")),
        wide("Kernel-Version", cells.node_kernel),
        wide("Container-Runtime", cells.node_info("containerRuntimeVersion")),
    ),
    "Service": (
        NAME,
        Column("Type", text("spec", "type")),
        Column("Cluster-IP", cells.cluster_ip),
        Column("External-IP", cells.external_ip),
        Column("Port(s)", cells.ports),
        AGE,
        wide("Selector", cells.plain_selector),
    ),
    "Namespace": (NAME, Column("Status", text("status", "phase")), AGE),
    "ConfigMap": (NAME, Column("Data", _data), AGE),
    "Secret": (NAME, Column("Type", text("type")), Column("Data", size("data")), AGE),
    "ServiceAccount": (NAME, Column("Secrets", size("secrets")), AGE),
    "Event": _EVENT,
    "Endpoints": (NAME, Column("Endpoints", cells.endpoints), AGE),
    "ReplicationController": (*_REPLICAS, wide("Selector", cells.plain_selector)),
    "PersistentVolume": (
        NAME,
        Column("Capacity", text("spec", "capacity", "storage")),
        Column("Access Modes", cells.volume_modes),
        Column("Reclaim Policy", text("spec", "persistentVolumeReclaimPolicy")),
        Column("Status", cells.claim_status),
        Column("Claim", cells.volume_claim),
        Column("StorageClass", text("spec", "storageClassName")),
        Column("VolumeAttributesClass", text("spec", "volumeAttributesClassName", empty=UNSET)),
        Column("Reason", text("status", "reason")),
        AGE,
        wide("VolumeMode", text("spec", "volumeMode", empty=UNSET)),
    ),
    "PersistentVolumeClaim": (
        NAME,
        Column("Status", cells.claim_status),
        Column("Volume", text("spec", "volumeName")),
        Column("Capacity", cells.claim_capacity),
        Column("Access Modes", cells.claim_modes),
        Column("StorageClass", text("spec", "storageClassName")),
        Column("VolumeAttributesClass", text("spec", "volumeAttributesClassName", empty=UNSET)),
        AGE,
        wide("VolumeMode", text("spec", "volumeMode", empty=UNSET)),
    ),
    "ResourceQuota": (
        NAME,
        Column("Request", cells.quota("requests")),
        Column("Limit", cells.quota("limits")),
        AGE,
    ),
    "LimitRange": (NAME, CREATED),
    "PodTemplate": (
        NAME,
        Column("Containers", lambda obj, moment: container_names(at(obj, "template", "spec", default={}))),
        Column("Images", lambda obj, moment: container_images(at(obj, "template", "spec", default={}))),
        Column(
            "Pod Labels",
            lambda obj, moment: shown_labels(at(obj, "template", "metadata", "labels", default=None)),
        ),
    ),
}

_GROUPED: dict[tuple[str, str], Sequence[Column]] = {
    ("apps", "Deployment"): (
        NAME,
        Column("Ready", cells.ready_of),
        Column("Up-to-date", number("status", "updatedReplicas")),
        Column("Available", number("status", "availableReplicas")),
        AGE,
        *_CONTAINERS,
        _SELECTOR,
    ),
    ("apps", "ReplicaSet"): (*_REPLICAS, _SELECTOR),
    ("apps", "StatefulSet"): (NAME, Column("Ready", cells.ready_of), AGE, *_CONTAINERS),
    ("apps", "DaemonSet"): (
        NAME,
        integer("Desired", number("status", "desiredNumberScheduled")),
        integer("Current", number("status", "currentNumberScheduled")),
        integer("Ready", number("status", "numberReady")),
        integer("Up-to-date", number("status", "updatedNumberScheduled")),
        integer("Available", number("status", "numberAvailable")),
        Column("Node Selector", _node_selector),
        AGE,
        *_CONTAINERS,
        _SELECTOR,
    ),
    ("apps", "ControllerRevision"): (
        NAME,
        Column("Controller", _controller),
        Column("Revision", number("revision")),
        AGE,
    ),
    ("batch", "Job"): (
        NAME,
        Column("Status", cells.job_status),
        Column("Completions", cells.job_completions),
        Column("Duration", cells.job_duration),
        AGE,
        *_CONTAINERS,
        _SELECTOR,
    ),
    ("batch", "CronJob"): (
        NAME,
        Column("Schedule", text("spec", "schedule")),
        Column("Timezone", text("spec", "timeZone", empty=NONE)),
        Column("Suspend", switch("spec", "suspend"), type="boolean"),
        integer("Active", size("status", "active")),
        Column("Last Schedule", cells.last_schedule),
        AGE,
        wide("Containers", _job_names),
        wide("Images", _job_images),
        wide("Selector", lambda obj, moment: NONE),
    ),
    ("events.k8s.io", "Event"): _EVENT,
    ("coordination.k8s.io", "Lease"): (NAME, Column("Holder", text("spec", "holderIdentity")), AGE),
    ("policy", "PodDisruptionBudget"): (
        NAME,
        Column("Min Available", _allowed("minAvailable")),
        Column("Max Unavailable", _allowed("maxUnavailable")),
        integer("Allowed Disruptions", number("status", "disruptionsAllowed")),
        AGE,
    ),
    ("autoscaling", "HorizontalPodAutoscaler"): (
        NAME,
        Column("Reference", cells.scale_target),
        Column("Targets", cells.scale_metrics),
        Column("MinPods", text("spec", "minReplicas", empty=UNSET)),
        Column("MaxPods", number("spec", "maxReplicas")),
        Column("Replicas", number("status", "currentReplicas")),
        AGE,
    ),
    ("autoscaling", "Scale"): (
        Column("Name", NAME.cell),
        integer("Desired", number("spec", "replicas")),
        integer("Available", number("status", "replicas")),
        AGE,
    ),
    ("networking.k8s.io", "Ingress"): (
        NAME,
        Column("Class", text("spec", "ingressClassName", empty=NONE)),
        Column("Hosts", cells.ingress_hosts),
        Column("Address", cells.ingress_address),
        Column("Ports", cells.ingress_ports),
        AGE,
    ),
    ("networking.k8s.io", "IngressClass"): (
        NAME,
        Column("Controller", text("spec", "controller")),
        Column("Parameters", cells.class_parameters),
        AGE,
    ),
    ("networking.k8s.io", "NetworkPolicy"): (NAME, Column("Pod-Selector", _pod_selector), AGE),
    ("discovery.k8s.io", "EndpointSlice"): (
        NAME,
        Column("AddressType", text("addressType")),
        Column("Ports", cells.slice_ports),
        Column("Endpoints", cells.slice_endpoints),
        AGE,
    ),
    ("rbac.authorization.k8s.io", "Role"): (NAME, CREATED),
    ("rbac.authorization.k8s.io", "ClusterRole"): (NAME, CREATED),
    ("rbac.authorization.k8s.io", "RoleBinding"): _ROLE_BINDING,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _ROLE_BINDING,
    ("storage.k8s.io", "StorageClass"): (
        Column("Name", _class_name, format="name"),
        Column("Provisioner", text("provisioner")),
        Column("ReclaimPolicy", text("reclaimPolicy", empty="Delete")),
        Column("VolumeBindingMode", text("volumeBindingMode", empty="Immediate")),
        Column("AllowVolumeExpansion", flag("allowVolumeExpansion")),
        AGE,
    ),
    ("storage.k8s.io", "CSINode"): (NAME, integer("Drivers", size("spec", "drivers")), AGE),
    ("scheduling.k8s.io", "PriorityClass"): (
        NAME,
        integer("Value", number("value")),
        Column("Global-Default", flag("globalDefault"), type="boolean"),
        AGE,
        Column("PreemptionPolicy", text("preemptionPolicy")),
    ),
    ("node.k8s.io", "RuntimeClass"): (NAME, Column("Handler", text("handler")), AGE),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _WEBHOOKS,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _WEBHOOKS,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): _policy("Validations"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): _POLICY_BINDING,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): _policy("Mutations"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): _POLICY_BINDING,
    ("certificates.k8s.io", "CertificateSigningRequest"): (
        NAME,
        AGE,
        Column("SignerName", text("spec", "signerName")),
        Column("Requestor", text("spec", "username")),
        Column("RequestedDuration", cells.signing_duration),
        Column("Condition", cells.signing_condition),
    ),
    ("apiregistration.k8s.io", "APIService"): (
        NAME,
        Column("Service", _service_of),
        Column("Available", cells.available),
        AGE,
    ),
}

COLUMNS: dict[tuple[str, str], Sequence[Column]] = {
    **{("", kind): columns for kind, columns in _CORE.items()},
    **_GROUPED,
    **INFRASTRUCTURE,
}
