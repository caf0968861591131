"""`docs/reference/task-yaml.md` names every field, and what it shows is what happens."""

import re
from pathlib import Path

import pytest

from whimbrel.model import taskfields
from whimbrel.model.errors import InvalidTask
from whimbrel.model.names import MOST_NODES
from whimbrel.model.yamltask import Overrides, load_task

PAGE = Path(__file__).parents[3].joinpath("docs/reference/task-yaml.md").read_text()


def block(first_words: str) -> str:
    """The code block of the page that starts with these words."""
    found = re.search(rf"^```\w*\n({first_words}.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    "field",
    [*taskfields.TASK, *taskfields.RESOURCES, *taskfields.SKYPILOT_TASK, *taskfields.SKYPILOT_RESOURCES],
)
def test_every_field_is_on_the_page(field: str) -> None:
    assert f"`{field}`" in PAGE


def test_the_example_of_the_page_is_a_task(tmp_path: Path) -> None:
    (tmp_path / "digits.csv").write_text("")
    task = load_task(block("name:"), overrides=Overrides(secrets={"HF_TOKEN": "x"}), env={}, cwd=tmp_path)
    shown = set(re.findall(r"^(\w+):", block("name:"), re.MULTILINE))
    assert shown == set(taskfields.TASK) - {"experimental"}, "it shows every field, by its newest name"
    assert task.file_mounts == {"/data/train.csv": str(tmp_path / "digits.csv")}
    assert task.envs["EPOCHS"] == "10"


def test_the_errors_of_the_page_are_the_errors_that_come(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(
        "name: x\nresource:\n  cpus: 4\nnum_nodes: '2'\nsecrets:\n  HF_TOKEN:\n"
    )
    with pytest.raises(InvalidTask) as refused:
        load_task("task.yaml", env={}, cwd=tmp_path)
    assert refused.value.message.splitlines() == block("3 problems").splitlines()


def test_the_limits_of_the_page_are_the_limits() -> None:
    assert f"1 to {MOST_NODES}" in PAGE
    assert f"exit code {InvalidTask.exit_code.value}" in PAGE
