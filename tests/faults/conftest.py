"""One laboratory per test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A home with an API server, a Kubernetes, and room for contexts that fail."""
    laboratory = Lab.build()
    try:
        yield laboratory
    finally:
        laboratory.close()
