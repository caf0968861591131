"""A context to test against: the embedded Kubernetes, or the one that WHIMBREL_TEST_CONTEXT names.

    make test-kubernetes CONTEXT=my-cluster

The tests use the namespace of the context, name everything `wt-...`, ask for little, and remove what they made. They
need no more rights than whimbrel itself, and those to ConfigMaps.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycluster.place import Place
from e2e.house import House
from kubewire.kubeconfig import default_paths, load

GIVEN = os.environ.get("WHIMBREL_TEST_CONTEXT", "")
LOCAL = "kubesim-local"


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """The context of all tests of this process; no cluster of theirs is left."""
    house = House.build()
    own = house.env["KUBECONFIG"]
    try:
        if GIVEN:
            # the credential plugins of a real context look for their state in the home of the user
            house.env["HOME"] = os.environ["HOME"]
            house.env["KUBECONFIG"] = os.pathsep.join(map(str, default_paths()))
        else:
            house.whim("local", "up")
        paths = tuple(map(Path, house.env["KUBECONFIG"].split(os.pathsep)))
        context = GIVEN or LOCAL
        yield Place(
            house=house,
            context=context,
            paths=paths,
            namespace=load(paths).connection(context).namespace,
        )
        house.whim("down", "-a", "-y", timeout=120)
    finally:
        house.env |= {"HOME": str(house.root), "KUBECONFIG": own}
        house.close()
