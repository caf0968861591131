"""What every test of the suite shares."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio is the only event loop that the product runs on."""
    return "asyncio"
