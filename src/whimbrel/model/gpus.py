"""Names of accelerators: one spelling for each, however the user or a node label writes it.

A name that is not in the table is taken as it is: clusters may have accelerators that are newer than this file. What
a cluster really has is the planner's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

KNOWN = (
    "A10", "A10G", "A16", "A2", "A30", "A40", "A100", "A100-80GB", "B100", "B200", "B300", "GB200", "GB300", "GH200",
    "GTX1080", "GTX1080Ti", "H100", "H100-MEGA", "H100-SXM", "H100-NVL", "H20", "H200", "H200-SXM", "K80", "L4", "L40",
    "L40S", "M4000", "M60", "MI100", "MI210", "MI250", "MI250X", "MI300X", "MI325X", "MI355X", "P100", "P4", "P40",
    "P4000", "P5000", "P6000", "Quadro-RTX6000", "Radeon MI25", "RTX2000-Ada", "RTX2080Ti", "RTX3060", "RTX3070",
    "RTX3080", "RTX3080Ti", "RTX3090", "RTX3090Ti", "RTX4000", "RTX4000-Ada", "RTX4060Ti", "RTX4070Ti", "RTX4080",
    "RTX4090", "RTX5000", "RTX5000-Ada", "RTX5080", "RTX5090", "RTX6000", "RTX6000-Ada", "RTXA2000", "RTXA4000",
    "RTXA4500", "RTXA5000", "RTXA6000", "RTXPRO6000", "T4", "T4g", "V100", "V100-32GB",
    "Gaudi HL-205", "Inferentia", "Inferentia2", "Trainium", "Trainium2",
)  # fmt: skip


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("nvidia"))


_BY_KEY = {_key(name): name for name in KNOWN} | {"a10080g": "A100-80GB", "v10032g": "V100-32GB"}


def canonical(name: str) -> str:
    """`h100` and `NVIDIA-H100` are `H100`; an unknown name comes back as it was given."""
    return _BY_KEY.get(_key(name), name)


def same(one: str, other: str) -> bool:
    """Whether two spellings mean one accelerator."""
    return _key(canonical(one)) == _key(canonical(other))


def nearest(name: str, among: Iterable[str] = KNOWN) -> str | None:
    """The known name that was probably meant."""
    import difflib  # only on the way to an error message

    keys = {_key(each): each for each in among}
    found = difflib.get_close_matches(_key(name), keys, n=1, cutoff=0.7)
    return keys[found[0]] if found else None
