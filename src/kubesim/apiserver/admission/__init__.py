"""What looks at other objects before a write is accepted: namespaces, service accounts, priority classes, limits,
quotas, policies and webhooks."""

from __future__ import annotations

from kubesim.apiserver.admission.base import Admission, Plugin
from kubesim.apiserver.admission.certificates import Requestors
from kubesim.apiserver.admission.ingressclass import DefaultIngressClass
from kubesim.apiserver.admission.lifecycle import NamespaceLifecycle
from kubesim.apiserver.admission.limitrange import LimitDefaults, LimitRanges
from kubesim.apiserver.admission.mutating import MutatingPolicies
from kubesim.apiserver.admission.nodes import TaintNewNodes
from kubesim.apiserver.admission.podsecurity import PodSecurity
from kubesim.apiserver.admission.policies import ValidatingPolicies
from kubesim.apiserver.admission.priority import Priority
from kubesim.apiserver.admission.quota import Quotas
from kubesim.apiserver.admission.runtimeclass import RuntimeClasses
from kubesim.apiserver.admission.serviceaccount import ServiceAccounts
from kubesim.apiserver.admission.storageclass import DefaultStorageClass
from kubesim.apiserver.admission.tolerations import DefaultTolerations
from kubesim.apiserver.admission.webhooks import MutatingWebhooks, ValidatingWebhooks


def default_admission(*late: Plugin) -> Admission:
    """The plugins that a real server runs without being told to, in its order, and then the given ones."""
    return Admission(
        (
            NamespaceLifecycle(),
            LimitDefaults(),
            ServiceAccounts(),
            TaintNewNodes(),
            Priority(),
            DefaultTolerations(),
            DefaultStorageClass(),
            RuntimeClasses(),
            DefaultIngressClass(),
            Requestors(),
        ),
        (Quotas(),),
        hooks=(MutatingPolicies(), MutatingWebhooks()),
        late=late,
        validators=(LimitRanges(), PodSecurity(), ValidatingPolicies(), ValidatingWebhooks()),
    )
