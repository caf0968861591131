"""What looks at other objects before a write is accepted: namespaces, service accounts, priority classes, limits
and quotas."""

from __future__ import annotations

from kubesim.apiserver.admission.base import Admission, Plugin
from kubesim.apiserver.admission.lifecycle import NamespaceLifecycle
from kubesim.apiserver.admission.limitrange import LimitDefaults, LimitRanges
from kubesim.apiserver.admission.nodes import TaintNewNodes
from kubesim.apiserver.admission.priority import Priority
from kubesim.apiserver.admission.quota import Quotas
from kubesim.apiserver.admission.serviceaccount import ServiceAccounts
from kubesim.apiserver.admission.storageclass import DefaultStorageClass
from kubesim.apiserver.admission.tolerations import DefaultTolerations


def default_admission(*more: Plugin) -> Admission:
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
            *more,
        ),
        (LimitRanges(), Quotas()),
    )
