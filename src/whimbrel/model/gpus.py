"""Names of accelerators: one spelling for each, however the user or a node label writes it, and what is known of them.

A name that is not in the table is taken as it is: clusters may have accelerators that are newer than this file. What
a cluster really has is the planner's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

CATALOGUE: Mapping[str, Mapping[str, int]] = {
    "NVIDIA": {
        "A10": 24, "A10G": 24, "A16": 16, "A2": 16, "A30": 24, "A40": 48, "A100": 40, "A100-80GB": 80,
        "B100": 192, "B200": 192, "B300": 288, "GB200": 192, "GB300": 288, "GH200": 96, "GTX1080": 8,
        "GTX1080Ti": 11, "H100": 80, "H100-MEGA": 80, "H100-SXM": 80, "H100-NVL": 94, "H20": 96, "H200": 141,
        "H200-SXM": 141, "K80": 12, "L4": 24, "L40": 48, "L40S": 48, "M4000": 8, "M60": 8, "P100": 16, "P4": 8,
        "P40": 24, "P4000": 8, "P5000": 16, "P6000": 24, "Quadro-RTX6000": 24, "RTX2000-Ada": 16,
        "RTX2080Ti": 11, "RTX3060": 12, "RTX3070": 8, "RTX3080": 10, "RTX3080Ti": 12, "RTX3090": 24,
        "RTX3090Ti": 24, "RTX4000": 8, "RTX4000-Ada": 20, "RTX4060Ti": 16, "RTX4070Ti": 12, "RTX4080": 16,
        "RTX4090": 24, "RTX5000": 16, "RTX5000-Ada": 32, "RTX5080": 16, "RTX5090": 32, "RTX6000": 24,
        "RTX6000-Ada": 48, "RTXA2000": 12, "RTXA4000": 16, "RTXA4500": 20, "RTXA5000": 24, "RTXA6000": 48,
        "RTXPRO6000": 96, "T4": 16, "T4g": 16, "V100": 16, "V100-32GB": 32,
    },
    "AMD": {
        "MI100": 32, "MI210": 64, "MI250": 128, "MI250X": 128, "MI300X": 192, "MI325X": 256, "MI355X": 288,
        "Radeon MI25": 16,
    },
    "Google": {
        "tpu-v2": 16, "tpu-v3": 32, "tpu-v4": 32, "tpu-v5e": 16, "tpu-v5p": 95, "tpu-v6e": 32, "tpu7x": 192,
    },
    "AWS": {
        "Inferentia": 8, "Inferentia2": 32, "Trainium": 32, "Trainium2": 96,
    },
    "Intel": {
        "Gaudi HL-205": 32,
    },
}  # fmt: skip
"""Who makes which accelerators, and the GB of memory that one of them has: what is known without asking anybody."""
KNOWN = tuple(name for names in CATALOGUE.values() for name in names)
_ALSO = {
    "a10080g": "A100-80GB", "v10032g": "V100-32GB", "tpuv5litepodslice": "tpu-v5e", "tpuv5litedevice": "tpu-v5e",
    "tpuv5pslice": "tpu-v5p", "tpuv4podslice": "tpu-v4", "tpuv6eslice": "tpu-v6e", "tpuv3device": "tpu-v3",
    "tpuv3slice": "tpu-v3",
}  # fmt: skip
"""Other spellings, as keys: those of GKE for TPUs among them."""


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("nvidia"))


_BY_KEY = {_key(name): name for name in KNOWN} | _ALSO


def canonical(name: str) -> str:
    """`h100` and `NVIDIA-H100` are `H100`; an unknown name comes back as it was given."""
    return _BY_KEY.get(_key(name), name)


def same(one: str, other: str) -> bool:
    """Whether two spellings mean one accelerator."""
    return _key(canonical(one)) == _key(canonical(other))


def larger(name: str, memory_gib: float) -> str:
    """The kind with more memory, where one name means both: an `A100` of 80 GiB is an `A100-80GB`."""
    for size in (80, 32):
        other = canonical(f"{name}-{size}GB")
        if other in KNOWN and other != name and memory_gib >= 0.9 * size:
            return other
    return name


def nearest(name: str, among: Iterable[str] = KNOWN) -> str | None:
    """The known name that was probably meant."""
    import difflib  # only on the way to an error message

    keys = {_key(each): each for each in among}
    found = difflib.get_close_matches(_key(name), keys, n=1, cutoff=0.7)
    return keys[found[0]] if found else None
