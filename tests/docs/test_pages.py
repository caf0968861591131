"""Documentation cannot rot: sessions are executed, generated pages are compared, links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.house import House

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)(?: ([\w.-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def _sessions(text: str) -> list[tuple[str, str]]:
    """(command, expected output) of a console block; the output of a command that ends with another code than 0
    ends with that code in brackets."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            command, output = found[-1]
            found[-1] = (command, output + line + "\n")
    return found


def _pattern(expected: str) -> str:
    """`...` stands for anything, white space for white space."""
    escaped = re.escape(" ".join(expected.split()))
    return escaped.replace(r"\.\.\.", ".*").replace(r"\ ", r"\s*")


@pytest.mark.parametrize("page", ["docs/tutorial.md", "docs/deletion.md", "docs/kubesim/faults.md"])
def test_a_tutorial_prints_what_it_says(page: str) -> None:
    """Every block of the page, in order, in a home of its own."""
    house = House.build()
    work = house.root / "work"
    work.mkdir()
    try:
        for language, name, text in BLOCK.findall((ROOT / page).read_text()):
            if name:
                (work / name).write_text(text)
            if language != "console":
                continue
            for command, expected in _sessions(text):
                if command.startswith("kubectl") and not shutil.which("kubectl"):
                    continue  # the user's own program; there is none on this machine
                done = subprocess.run(
                    ["/bin/sh", "-c", command],
                    env=house.env,
                    cwd=work,
                    capture_output=True,
                    text=True,
                    timeout=90,
                    stdin=subprocess.DEVNULL,
                )
                printed = done.stdout or (done.stderr if "Error:" in expected else "")
                printed += f"[{done.returncode}]" if done.returncode else ""
                assert re.fullmatch(_pattern(expected), printed.strip(), re.DOTALL), (
                    f"$ {command}\nexpected:\n{expected}\nprinted:\n{printed}\nstderr:\n{done.stderr}"
                )
    finally:
        house.close()


def test_the_python_of_the_pages_runs() -> None:
    """Every program of docs/python.md, in a home of its own."""
    house = House.build()
    try:
        for language, _, text in BLOCK.findall((ROOT / "docs" / "python.md").read_text()):
            if language == "python":
                done = house.run(sys.executable, "-c", text, timeout=60)
                assert done.returncode == 0, done.stderr
                assert "hello from rank 1" in done.stdout
                assert done.stdout.endswith("SUCCEEDED\n")
    finally:
        house.close()


def test_the_files_of_the_page_for_tool_authors_run(tmp_path: Path) -> None:
    """Each block is a file; the tests among them pass, in a run of pytest as their author would start it."""
    page = (ROOT / "docs" / "kubesim" / "for-tool-authors.md").read_text()
    for language, name, text in BLOCK.findall(page):
        assert language == "console" or name, f"a block without a file name:\n{text}"
        if name:
            (tmp_path / name).write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        ".",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(
        [sys.executable, "without_pytest.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("4 namespaces at https://127.0.0.1:"), done.stderr


def test_generated_pages_are_what_the_code_says() -> None:
    """`make docs` would change nothing."""
    script = ROOT / "scripts" / "build_reference.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    """Relative links only; the network is not asked."""
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), (
            f"{page.relative_to(ROOT)} links to {target}, which is not there"
        )
