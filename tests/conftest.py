"""What every test of the suite shares."""

import sys

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, but for what asyncio of early Python 3.11 itself leaves open when a subprocess is ended
    while its pipes are being connected (mended in 3.11.5)."""
    if sys.version_info < (3, 11, 5):
        config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio is the only event loop that the product runs on."""
    return "asyncio"
