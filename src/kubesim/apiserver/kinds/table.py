"""Which kind has which strategy: the one list of them."""

from __future__ import annotations

from kubesim.apiserver.kinds import jobs, limits, policies, policy, storage, workloads
from kubesim.apiserver.kinds.base import Strategy
from kubesim.apiserver.kinds.core import (
    ConfigMapStrategy,
    EventStrategy,
    LeaseStrategy,
    NamespaceStrategy,
    NodeStrategy,
    SecretStrategy,
    ServiceAccountStrategy,
)
from kubesim.apiserver.kinds.definition import DefinitionStrategy
from kubesim.apiserver.kinds.pod import PodStrategy
from kubesim.apiserver.kinds.service import ServiceStrategy
from kubesim.apiserver.kinds.webhooks import WebhooksStrategy

_ADMISSION = "admissionregistration.k8s.io"
_NETWORKING = "networking.k8s.io"
_STORAGE = "storage.k8s.io"

STRATEGIES: dict[tuple[str, str], Strategy] = {
    ("", "ConfigMap"): ConfigMapStrategy(),
    ("", "Endpoints"): policy.EndpointsStrategy(),
    ("", "Event"): EventStrategy(),
    ("", "LimitRange"): limits.LimitRangeStrategy(),
    ("", "Namespace"): NamespaceStrategy(),
    ("", "Node"): NodeStrategy(),
    ("", "PersistentVolume"): storage.VolumeStrategy(),
    ("", "PersistentVolumeClaim"): storage.ClaimStrategy(),
    ("", "Pod"): PodStrategy(),
    ("", "ReplicationController"): workloads.ReplicationControllerStrategy(),
    ("", "ResourceQuota"): limits.QuotaStrategy(),
    ("", "Secret"): SecretStrategy(),
    ("", "Service"): ServiceStrategy(),
    ("", "ServiceAccount"): ServiceAccountStrategy(),
    (_ADMISSION, "MutatingAdmissionPolicy"): policies.PolicyStrategy(),
    (_ADMISSION, "MutatingAdmissionPolicyBinding"): policies.PolicyBindingStrategy(),
    (_ADMISSION, "MutatingWebhookConfiguration"): WebhooksStrategy(),
    (_ADMISSION, "ValidatingAdmissionPolicy"): policies.PolicyStrategy(),
    (_ADMISSION, "ValidatingAdmissionPolicyBinding"): policies.PolicyBindingStrategy(),
    (_ADMISSION, "ValidatingWebhookConfiguration"): WebhooksStrategy(),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): DefinitionStrategy(),
    ("apps", "ControllerRevision"): workloads.ControllerRevisionStrategy(),
    ("apps", "DaemonSet"): workloads.DaemonSetStrategy(),
    ("apps", "Deployment"): workloads.DeploymentStrategy(),
    ("apps", "ReplicaSet"): workloads.ReplicaSetStrategy(),
    ("apps", "StatefulSet"): workloads.StatefulSetStrategy(),
    ("autoscaling", "HorizontalPodAutoscaler"): policy.AutoscalerStrategy(),
    ("batch", "CronJob"): jobs.CronJobStrategy(),
    ("batch", "Job"): jobs.JobStrategy(),
    ("coordination.k8s.io", "Lease"): LeaseStrategy(),
    ("discovery.k8s.io", "EndpointSlice"): policy.EndpointSliceStrategy(),
    ("events.k8s.io", "Event"): EventStrategy(),
    (_NETWORKING, "Ingress"): policy.CountedStrategy(),
    (_NETWORKING, "IngressClass"): policy.IngressClassStrategy(),
    (_NETWORKING, "NetworkPolicy"): policy.NetworkPolicyStrategy(),
    ("policy", "PodDisruptionBudget"): policy.BudgetStrategy(),
    (policy.RBAC, "ClusterRole"): policy.RoleStrategy(),
    (policy.RBAC, "ClusterRoleBinding"): policy.BindingStrategy(),
    (policy.RBAC, "Role"): policy.RoleStrategy(),
    (policy.RBAC, "RoleBinding"): policy.BindingStrategy(),
    ("scheduling.k8s.io", "PriorityClass"): policy.PriorityClassStrategy(),
    (_STORAGE, "CSIDriver"): storage.CSIDriverStrategy(),
    (_STORAGE, "StorageClass"): storage.StorageClassStrategy(),
}
