"""One home with a running local Kubernetes per test process, and fresh homes for tests that break things."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.house import House


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """A home whose local Kubernetes is up, shared by the tests of this process; each uses its own cluster names."""
    home = House.build()
    try:
        home.whim("local", "up")
        yield home
    finally:
        home.close()


@pytest.fixture
def fresh_house() -> Iterator[House]:
    """A home in which nothing runs."""
    home = House.build()
    try:
        yield home
    finally:
        home.close()
