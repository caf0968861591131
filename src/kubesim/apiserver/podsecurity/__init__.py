"""The Pod Security Standards: what a pod may not ask for at the levels baseline and restricted. Pure."""

from __future__ import annotations

from kubesim.apiserver.podsecurity.standards import LEVELS, Violation, violations

__all__ = ["LEVELS", "Violation", "violations"]
