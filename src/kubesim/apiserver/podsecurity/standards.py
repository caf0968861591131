"""Which checks belong to which level, and what a pod violates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kubesim.apiserver.podsecurity import baseline, restricted
from kubesim.apiserver.requests import JsonObject

LEVELS = ("privileged", "baseline", "restricted")
Check = Callable[[JsonObject, JsonObject], str]


@dataclass(frozen=True, slots=True)
class Violation:
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})"


_BASELINE: tuple[tuple[str, Check], ...] = (
    ("forbidden AppArmor profile", baseline.app_armor),
    ("non-default capabilities", baseline.capabilities),
    ("host namespaces", baseline.host_namespaces),
    ("hostPath volumes", baseline.host_paths),
    ("hostPort", baseline.host_ports),
    ("privileged", baseline.privileged),
    ("procMount", baseline.proc_mount),
    ("seLinuxOptions", baseline.se_linux),
    ("seccompProfile", baseline.seccomp),
    ("forbidden sysctls", baseline.sysctls),
    ("hostProcess", baseline.windows_host_process),
)
_RESTRICTED: tuple[tuple[str, Check], ...] = (
    ("allowPrivilegeEscalation != false", restricted.escalation),
    ("unrestricted capabilities", restricted.capabilities),
    ("restricted volume types", restricted.volumes),
    ("runAsNonRoot != true", restricted.non_root),
    ("runAsUser=0", restricted.user),
    ("seccompProfile", restricted.seccomp),
)
_REPLACED: frozenset[Check] = frozenset({baseline.capabilities, baseline.seccomp})
"""What restricted has a stricter check for."""


def violations(level: str, meta: JsonObject, spec: JsonObject) -> list[Violation]:
    """What a pod (its metadata and spec) violates, in the order in which the real server tells it."""
    checks = list(_BASELINE) if level != "privileged" else []
    if level == "restricted":
        checks = [one for one in checks if one[1] not in _REPLACED] + list(_RESTRICTED)
    found = ((reason, check(meta, spec)) for reason, check in checks)
    return [Violation(reason, detail) for reason, detail in found if detail]
