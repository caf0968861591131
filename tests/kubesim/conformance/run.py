"""Hold a fresh kubesim cluster against the conformance kit, if the kit is beside the project.

    python tests/kubesim/conformance/run.py [--kit FOLDER] [--filter GLOBS] [--memory] [--kubectl-only | --no-kubectl]

Makes a cluster without nodes in a temporary home, runs `conform.py check` and `check-kubectl` against it and removes
it again. What fails is compared with the differences that `docs/kubesim/differences.md` lists by name (in its table of
scenarios): exit code 0 when nothing else failed, 1 when something did, and 0 with a message when there is no kit.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[3]
DIFFERENCES = PROJECT / "docs" / "kubesim" / "differences.md"
_LISTED = re.compile(r"^\| `([a-z0-9-]+)` \|", re.MULTILINE)
_FAILED = re.compile(r"^FAIL\s+(\S+)", re.MULTILINE)
_LIMIT = 1200.0


def listed_differences(text: str) -> set[str]:
    """The scenarios that are known to differ."""
    return set(_LISTED.findall(text))


def failed_scenarios(output: str) -> set[str]:
    """The scenarios that a report of the kit names as failed."""
    return set(_FAILED.findall(output))


def check(kit: Path, kubeconfig: Path, command: str, arguments: list[str], sources: list[str]) -> set[str]:
    """Run one command of the kit, show what it says, and return what failed."""
    line = [sys.executable, str(kit / "conform.py"), command, "--kubeconfig", str(kubeconfig)]
    run = subprocess.run(
        [*line, *arguments, *(str(kit / source) for source in sources)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=_LIMIT,
        check=False,
    )
    sys.stdout.write(run.stdout)
    if run.returncode not in (0, 1):
        raise SystemExit(f"the conformance kit itself failed with code {run.returncode}")
    return failed_scenarios(run.stdout)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kit", type=Path, default=PROJECT.parent / "shared" / "conformance")
    parser.add_argument("--filter", default="*")
    parser.add_argument("--memory", action="store_true", help="use the memory store")
    parser.add_argument("--kubectl-only", action="store_true")
    parser.add_argument("--no-kubectl", action="store_true")
    options = parser.parse_args()
    if not (options.kit / "conform.py").exists():
        print(f"Skipped: there is no conformance kit in {options.kit}.")  # noqa: T201
        return 0
    home = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    kubeconfig = home / "kubeconfig"
    environment = {**os.environ, "KUBESIM_HOME": str(home / "kubesim"), "KUBECONFIG": str(kubeconfig)}
    kubesim = [sys.executable, "-m", "kubesim"]
    try:
        store = "memory" if options.memory else "durable"
        create = [*kubesim, "create", "cluster", "--name", "conform", "--wait", "60s", "--store", store]
        subprocess.run(create, env=environment, check=True, timeout=120)
        filtered, failed = ["--filter", options.filter], set[str]()
        if not options.kubectl_only:
            failed |= check(options.kit, kubeconfig, "check", filtered, ["scenarios", "golden"])
        if not options.no_kubectl and shutil.which("kubectl"):
            failed |= check(
                options.kit, kubeconfig, "check-kubectl", filtered, ["kubectl_cases.yaml", "golden-kubectl"]
            )
    finally:
        subprocess.run(
            [*kubesim, "delete", "cluster", "--name", "conform", "--force"],
            env=environment,
            check=False,
            timeout=60,
        )
        shutil.rmtree(home, ignore_errors=True)
    new = failed - listed_differences(DIFFERENCES.read_text())
    print(f"{len(failed)} differ, {len(new)} of them are not listed in {DIFFERENCES.name}: {sorted(new)}")  # noqa: T201
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
