"""Which kind has which strategy: the one list of them."""

from __future__ import annotations

from kubesim.apiserver.kinds import (
    endpoints,
    jobs,
    limits,
    networking,
    policies,
    policy,
    storage,
    workloads,
)
from kubesim.apiserver.kinds.autoscaling import AutoscalerStrategy
from kubesim.apiserver.kinds.base import Strategy
from kubesim.apiserver.kinds.certificates import SigningRequestStrategy
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
    ("", "Endpoints"): endpoints.EndpointsStrategy(),
    ("", "Event"): EventStrategy(),
    ("", "LimitRange"): limits.LimitRangeStrategy(),
    ("", "Namespace"): NamespaceStrategy(),
    ("", "Node"): NodeStrategy(),
    ("", "PersistentVolume"): storage.VolumeStrategy(),
    ("", "PersistentVolumeClaim"): storage.ClaimStrategy(),
    ("", "Pod"): PodStrategy(),
    ("", "PodTemplate"): workloads.PodTemplateStrategy(),
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
    ("autoscaling", "HorizontalPodAutoscaler"): AutoscalerStrategy(),
    ("batch", "CronJob"): jobs.CronJobStrategy(),
    ("batch", "Job"): jobs.JobStrategy(),
    ("certificates.k8s.io", "CertificateSigningRequest"): SigningRequestStrategy(),
    ("coordination.k8s.io", "Lease"): LeaseStrategy(),
    ("discovery.k8s.io", "EndpointSlice"): endpoints.EndpointSliceStrategy(),
    ("events.k8s.io", "Event"): EventStrategy(),
    (_NETWORKING, "Ingress"): networking.IngressStrategy(),
    (_NETWORKING, "IngressClass"): networking.IngressClassStrategy(),
    (_NETWORKING, "NetworkPolicy"): networking.NetworkPolicyStrategy(),
    ("policy", "PodDisruptionBudget"): policy.BudgetStrategy(),
    (policy.RBAC, "ClusterRole"): policy.RoleStrategy(),
    (policy.RBAC, "ClusterRoleBinding"): policy.BindingStrategy(),
    (policy.RBAC, "Role"): policy.RoleStrategy(),
    (policy.RBAC, "RoleBinding"): policy.BindingStrategy(),
    ("scheduling.k8s.io", "PriorityClass"): policy.PriorityClassStrategy(),
    ("node.k8s.io", "RuntimeClass"): policy.RuntimeClassStrategy(),
    (_STORAGE, "CSIDriver"): storage.CSIDriverStrategy(),
    (_STORAGE, "StorageClass"): storage.StorageClassStrategy(),
}
