"""Names: which ones Kubernetes accepts for what a cluster becomes there, and how ours are made.

A cluster's name is the first part of the names of its pods and services (`NAME-UID8-RANK`), so it has to be a DNS
label that leaves room for the rest within 63 characters, and start with a letter (as a service must).
"""

from __future__ import annotations

import os
import re

from whimbrel.model.errors import InvalidName

LONGEST_CLUSTER_NAME = 50
"""63 characters of a DNS label, less `-UID8-RANK` with ranks up to 999."""

MOST_NODES = 1000

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def check_cluster_name(name: str) -> str:
    """The name itself. Raises `InvalidName`, which says what is wrong and which name would do."""
    problem = _problem(name)
    if problem:
        raise InvalidName(
            f"The cluster name {name!r} would be refused by Kubernetes: {problem}.",
            remedy=f"Use lower-case letters, digits and '-', for example {_mend(name)!r}.",
        )
    return name


def generate_cluster_name(user: str, *, token: str | None = None) -> str:
    """A name for a cluster that was given none: `whim-3fa9-alice`."""
    tail = re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-")[:32].strip("-")
    head = f"whim-{token or os.urandom(2).hex()}"
    return check_cluster_name(f"{head}-{tail}" if tail else head)


def node_name(cluster: str, uid: str, rank: int) -> str:
    """The name of one node's pod: unique per incarnation of the cluster, the same at every attempt."""
    if not 0 <= rank < MOST_NODES:
        raise ValueError(f"rank {rank} is not between 0 and {MOST_NODES - 1}")
    return f"{cluster}-{short_uid(uid)}-{rank}"


def short_uid(uid: str) -> str:
    """The eight characters by which names tell incarnations apart."""
    short = re.sub(r"[^a-z0-9]", "", uid.lower())[:8]
    if len(short) < 8:
        raise ValueError(f"{uid!r} is too short for a cluster uid")
    return short


def _problem(name: str) -> str:
    if not name:
        return "it is empty"
    if len(name) > LONGEST_CLUSTER_NAME:
        return f"it has {len(name)} characters, and only {LONGEST_CLUSTER_NAME} leave room for its nodes"
    if name != name.lower():
        return "it has upper-case letters"
    wrong = sorted(set(re.sub(r"[-a-z0-9]", "", name)))
    if wrong:
        return f"it has {' '.join(map(repr, wrong[:5]))} in it"
    if not name[0].isalpha():
        return "it does not start with a letter"
    if not _LABEL.fullmatch(name):
        return "it ends with '-'"
    return ""


def _mend(name: str) -> str:
    mended = re.sub(r"[^a-z0-9]+", "-", name.lower())
    mended = re.sub(r"^[^a-z]+", "", mended)[:LONGEST_CLUSTER_NAME].strip("-")
    return mended or "my-cluster"
