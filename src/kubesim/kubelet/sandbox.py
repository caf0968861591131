"""The place in which a container's processes live: home, temporary folder, virtual environment, mounts.

This is the plain tier: processes of the user on the user's machine, kept apart by HOME, working directory, TMPDIR and
a Python of their own. It promises no more than that: nothing hides the machine's files from them. A stronger tier would
take the same `Place` and put real mounts around it. Everything is below the folder of the container's attempt, so that
a restarted container starts from nothing, as it does in Kubernetes.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesim.kubelet import containerfiles, volumes
from kubesim.kubelet.containerfiles import Spec
from kubesim.kubelet.environment import ConfigError
from kubesim.kubelet.expansion import expand
from kubesim.kubelet.venv import Template

SHELL = "/bin/sh"


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one attempt."""

    directory: Path

    @property
    def home(self) -> Path:
        """HOME, and the working directory of who names none."""
        return self.directory / "home"

    @property
    def root(self) -> Path:
        """What `/` is to the container's mounts and working directory."""
        return self.directory / "root"

    @property
    def temporary(self) -> Path:
        """TMPDIR."""
        return self.directory / "tmp"

    @property
    def venv(self) -> Path:
        """The virtual environment."""
        return self.directory / "venv"

    def working_directory(self, wanted: str | None) -> Path:
        """Where a container with this workingDir starts."""
        return self.root / wanted.strip("/") if wanted else self.home


def prepare(
    place: Place, pod: Mapping[str, Any], container: Mapping[str, Any], template: Template, pod_volumes: Path
) -> None:
    """Make the folders of an attempt. Safe to repeat."""
    for folder in (place.home, place.root, place.temporary):
        folder.mkdir(parents=True, exist_ok=True)
    volumes.link_mounts(place.root, container, pod_volumes)
    place.working_directory(container.get("workingDir")).mkdir(parents=True, exist_ok=True)
    (place.directory / containerfiles.LAST_WORDS).touch()
    if not (place.venv / "bin").is_dir():
        shutil.rmtree(place.venv, ignore_errors=True)
        unfinished = place.directory / "venv.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        template.instantiate(unfinished, place.venv)
        unfinished.rename(place.venv)


def base_environment(
    place: Place, pod: Mapping[str, Any], *, host: Mapping[str, str], path: Sequence[str], cache: Path
) -> dict[str, str]:
    """What a plain process needs here, before anything that Kubernetes says."""
    spec, metadata = pod.get("spec", {}), pod.get("metadata", {})
    home = place.home
    own = [str(place.venv / "bin"), str(home / ".local" / "bin"), str(home / "bin")]
    user = _user_name()
    return {
        **host,
        "PATH": os.pathsep.join([*own, *path]),
        "HOME": str(home),
        "TMPDIR": str(place.temporary),
        "HOSTNAME": str(spec.get("hostname") or metadata.get("name", ""))[:63],
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "VIRTUAL_ENV": str(place.venv),
        "PIP_CACHE_DIR": str(cache / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "KUBESIM_ROOT": str(place.root),
        "KUBESIM_TERMINATION_LOG": str(place.directory / containerfiles.LAST_WORDS),
    }


def make_spec(
    place: Place,
    container: Mapping[str, Any],
    base: Mapping[str, str],
    declared: Mapping[str, str],
    notes: dict[str, Any],
) -> Spec:
    """What the shim is to run. Raises ConfigError when the pod names neither a command nor arguments.

    An image that is not pulled has no entry point, so that arguments alone are the command. Who asks for a terminal and
    its input, and for no command, wants a shell: that is what `kubectl debug -it` and `kubectl run -it` give.
    """
    command = [expand(str(word), declared) for word in container.get("command") or ()]
    arguments = [expand(str(word), declared) for word in container.get("args") or ()]
    interactive = bool(container.get("stdin")) and bool(container.get("tty"))
    if not command and not arguments and interactive:
        command = [SHELL]
    if not command and not arguments:
        raise ConfigError(
            f'container "{container["name"]}" names no command: process pods do not pull images, so the image '
            "cannot supply one"
        )
    return Spec(
        argv=command + arguments,
        env={**base, **declared},
        cwd=str(place.working_directory(container.get("workingDir"))),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        notes=notes,
    )


def clear(place: Place) -> None:
    """Remove what only running processes need; log and exit code stay."""
    for folder in (place.home, place.root, place.temporary, place.venv):
        remove_tree(folder)


def remove_tree(path: Path) -> None:
    """Remove a folder, also one whose owner has taken the permission to write in it away. Links are not followed."""

    def unlock(function: object, name: str, error: object) -> None:
        parent = os.path.dirname(name)
        for folder in (parent, name):
            if os.path.isdir(folder) and not os.path.islink(folder):
                os.chmod(folder, stat.S_IRWXU)
        if os.path.isdir(name) and not os.path.islink(name):
            shutil.rmtree(name, ignore_errors=True)
        elif os.path.lexists(name):
            os.unlink(name)

    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path, onerror=unlock)


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
