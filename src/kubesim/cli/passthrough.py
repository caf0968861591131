"""`kubesim kubectl`: the user's own kubectl, pointed at one cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from kubesim.cluster import contexts
from kubesim.cluster.errors import ClusterNotFound, ProgramMissing
from kubesim.cluster.home import Home
from kubesim.cluster.inspect import look


def kubectl(name: str, arguments: tuple[str, ...]) -> int:
    """Run kubectl with a kubeconfig that holds this cluster only, and give its exit code."""
    paths = Home.from_environment().cluster(name)
    facts = look(paths, probe=False)
    if facts.record is None or facts.problems:
        raise ClusterNotFound(
            f"There is no cluster {name!r} that could be used"
            + (f": {'; '.join(facts.problems)}." if facts.problems else "."),
            remedy="See what there is: kubesim get clusters",
        )
    program = shutil.which("kubectl")
    if program is None:
        raise ProgramMissing(
            "kubectl is not installed, or not on PATH.",
            remedy="Install it: https://kubernetes.io/docs/tasks/tools/",
        )
    arguments = arguments[1:] if arguments[:1] == ("--",) else arguments
    with tempfile.TemporaryDirectory(prefix="kubesim-") as directory:
        file = Path(directory) / "kubeconfig"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(contexts.whole(paths, facts.record)))
        return subprocess.call([program, *arguments], env={**os.environ, "KUBECONFIG": str(file)})
