"""kubectl and helm, where they are installed: the flows of a user (what each command prints is tested elsewhere)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]
LIMIT = 60.0

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not on this machine")


@pytest.fixture
def run(kubesim_kubeconfig: Path, kubesim_namespace: str, tmp_path: Path) -> Run:
    """Run a command that has to succeed, in the test's namespace; what it prints."""
    env = {
        "KUBECONFIG": str(kubesim_kubeconfig),
        "HOME": str(tmp_path),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }

    def go(*argv: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [*argv, "--namespace", kubesim_namespace]
            if "--" not in argv
            else _before_dashes(argv, kubesim_namespace),
            env=env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return go


def _before_dashes(argv: tuple[str, ...], namespace: str) -> list[str]:
    at = argv.index("--")
    return [*argv[:at], "--namespace", namespace, *argv[at:]]


@needs_kubectl
def test_kubectl_applies_waits_scales_and_deletes(run: Run, manifest: Path) -> None:
    assert run("kubectl", "apply", "-f", str(manifest)) == "deployment.apps/sleepers created\n"
    assert run("kubectl", "apply", "-f", str(manifest)) == "deployment.apps/sleepers unchanged\n"
    assert "successfully rolled out" in run("kubectl", "rollout", "status", "deployment/sleepers")
    run("kubectl", "scale", "deployment/sleepers", "--replicas=1")
    run("kubectl", "wait", "deployment/sleepers", "--for=jsonpath={.status.replicas}=1", "--timeout=20s")
    assert run("kubectl", "apply", "--server-side", "--force-conflicts", "-f", str(manifest)).endswith(
        "serverside-applied\n"
    )
    assert run("kubectl", "delete", "-f", str(manifest)).startswith('deployment.apps "sleepers" deleted')


@needs_kubectl
def test_kubectl_runs_reads_logs_and_executes(run: Run) -> None:
    run("kubectl", "run", "web", "--image=any", "--", "sh", "-c", "echo started; sleep 100")
    run("kubectl", "wait", "pod/web", "--for=condition=Ready", "--timeout=20s")
    assert run("kubectl", "logs", "web") == "started\n"
    assert run("kubectl", "exec", "-i", "web", "--", "cat", stdin="bread") == "bread"
    assert "Started" in run("kubectl", "events", "--for", "pod/web")
    run("kubectl", "delete", "pod", "web", "--grace-period=0", "--force")


@needs_helm
def test_helm_installs_upgrades_and_uninstalls(run: Run, manifest: Path, tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: sleepers\nversion: 0.1.0\n")
    (chart / "values.yaml").write_text("replicas: 2\n")
    template = manifest.read_text().replace("replicas: 2", "replicas: {{ .Values.replicas }}")
    (chart / "templates" / "deployment.yaml").write_text(template)
    assert "STATUS: deployed" in run("helm", "install", "s", str(chart), "--wait", "--timeout", "40s")
    run("helm", "upgrade", "s", str(chart), "--set", "replicas=1", "--wait", "--timeout", "40s")
    assert "s" in run("helm", "list", "--short").split()
    assert 'release "s" uninstalled' in run("helm", "uninstall", "s", "--wait", "--timeout", "40s")
