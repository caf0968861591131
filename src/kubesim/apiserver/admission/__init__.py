"""What looks at other objects before a write is accepted: namespaces, service accounts, priority classes."""

from __future__ import annotations

from kubesim.apiserver.admission.base import Admission
from kubesim.apiserver.admission.lifecycle import NamespaceLifecycle
from kubesim.apiserver.admission.nodes import TaintNewNodes
from kubesim.apiserver.admission.priority import Priority
from kubesim.apiserver.admission.serviceaccount import ServiceAccounts
from kubesim.apiserver.admission.tolerations import DefaultTolerations


def default_admission() -> Admission:
    """The plugins that a real server runs without being told to, in its order."""
    return Admission(
        (NamespaceLifecycle(), ServiceAccounts(), TaintNewNodes(), Priority(), DefaultTolerations())
    )
