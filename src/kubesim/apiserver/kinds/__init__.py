"""What is particular to a kind: one Strategy per kind, and a general one for all that have nothing of their own.

    strategy(rt).prepare_create(rt, obj, ctx)

What an object goes through is written in `base`; the front doors of defaulting and validation are
`defaulting.default` and `validation`.
"""

from __future__ import annotations

from kubesim.apiserver.kinds.base import Allocator, Context, Strategy
from kubesim.apiserver.kinds.custom import CustomStrategy
from kubesim.apiserver.kinds.table import STRATEGIES
from kubesim.schema.registry import ResourceType

__all__ = ["Allocator", "Context", "Strategy", "strategy"]

_GENERAL = Strategy()
_CUSTOM = CustomStrategy()


def strategy(rt: ResourceType) -> Strategy:
    """The strategy of a resource."""
    if rt.custom:
        return _CUSTOM
    return STRATEGIES.get((rt.group, rt.kind), _GENERAL)
