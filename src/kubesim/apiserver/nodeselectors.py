"""Which nodes a pod or a volume names: node selectors and required node affinity, asked once.

For whoever looks at one node now and then. The scheduler, which asks thousands of times, has terms that it has read
before (`scheduler.affinity`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubesim.apiserver.selectors import from_object

Object = Mapping[str, Any]
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def term_takes(term: Object, name: str, labels: Mapping[str, str]) -> bool:
    """Whether one term takes the node; an empty one takes none."""
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    by_label = from_object({"matchExpressions": expressions})
    by_field = from_object({"matchExpressions": fields})
    return by_label.matches(labels) and by_field.matches({"metadata.name": name})


def pod_takes(spec: Object, name: str, labels: Mapping[str, str]) -> bool:
    """Whether the node selector and the required affinity of a pod take the node."""
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    if required is None:
        return True
    return any(term_takes(term, name, labels) for term in required.get("nodeSelectorTerms") or ())
