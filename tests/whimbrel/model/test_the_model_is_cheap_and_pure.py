"""`whim launch` pays for reading a task: the model must load nothing that it does not need."""

import json
import subprocess
import sys

import pytest

from whimbrel.model.redaction import BLANK, redact

HEAVY = ("pydantic", "sqlalchemy", "asyncio", "orjson", "click", "rich", "httpx2", "ssl", "whimbrel.store")


@pytest.mark.parametrize(
    "module", ["whimbrel.model.yamltask", "whimbrel.model.errors", "whimbrel.model.names"]
)
def test_reading_a_task_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, json; import {module}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True).stdout
    loaded = set(json.loads(output))
    assert not loaded.intersection(HEAVY)


def test_whatever_stands_under_secrets_is_blanked_at_any_depth() -> None:
    body = {
        "task": {"secrets": {"A": "x", "B": None}, "envs": {"A": "y"}},
        "list": [{"secrets": ["z"]}],
        "n": 1,
    }
    assert redact(body) == {
        "task": {"secrets": {"A": BLANK, "B": None}, "envs": {"A": "y"}},
        "list": [{"secrets": [BLANK]}],
        "n": 1,
    }
    assert body["task"] == {"secrets": {"A": "x", "B": None}, "envs": {"A": "y"}}, (
        "the original is not touched"
    )
