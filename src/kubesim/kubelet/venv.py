"""A Python of its own for every container, made in milliseconds.

One template per node holds a virtual environment's packages (pip and nothing else); a container's environment is made
by linking the template's files. What pip installs, upgrades or removes there stays there: pip replaces files, it does
not write into them. The user's Python is only read. Removing environments is the pod's business.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import shlex
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_PACKAGES = Path("lib") / f"python{_VERSION}" / "site-packages"


@dataclass(frozen=True, slots=True)
class Template:
    """What is linked into each environment."""

    packages: Path

    def instantiate(self, target: Path, final: Path | None = None) -> None:
        """Make a virtual environment at `target`, which must not exist; it will be moved to `final`, if given."""
        base = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
        binaries = target / "bin"
        binaries.mkdir(parents=True)
        for name in ("python", "python3", f"python{_VERSION}"):
            (binaries / name).symlink_to(base)
        version = ".".join(map(str, sys.version_info[:3]))
        (target / "pyvenv.cfg").write_text(
            f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
            f"executable = {base}\n"
        )
        packages = target / _PACKAGES
        packages.mkdir(parents=True)
        (target / "lib64").symlink_to("lib")
        _link_tree(str(self.packages), str(packages))
        if (packages / "pip").is_dir():
            self._write_scripts(binaries, (final or target) / "bin" / "python")

    def compile_command(self) -> list[str] | None:
        """What compiles pip ahead, at the lowest priority, which saves the first pip of each later container a second;
        None when it is compiled, because it was copied from an environment in which it had been used."""
        if any((self.packages / "pip").glob("__pycache__/*.pyc")):
            return None
        return ["nice", "-n", "19", sys.executable, "-P", "-m", "compileall", "-q", str(self.packages)]

    @staticmethod
    def _write_scripts(binaries: Path, python: Path) -> None:
        # Through /bin/sh, because the path of the interpreter may be longer than a `#!` line allows.
        text = (
            f"#!/bin/sh\n'''exec' {shlex.quote(str(python))} \"$0\" \"$@\"\n' '''\n"
            "import sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
        )
        for name in ("pip", "pip3", f"pip{_VERSION}"):
            script = binaries / name
            script.write_text(text)
            script.chmod(0o755)


def template(root: Path) -> Template:
    """The template of a node, made when it is not there. Another process may be making it at the same time."""
    place = root / f"venv-template-{_VERSION}"
    if not place.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".venv-template-", dir=root))
        try:
            _provide_pip(work)
            work.chmod(0o755)
            try:
                work.rename(place)
            except OSError:  # somebody else was faster
                if not place.is_dir():
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return Template(place)


def _provide_pip(target: Path) -> None:
    """Put pip into a folder: from the virtual environment that we run in (it is compiled), else from ensurepip."""
    if sys.prefix != sys.base_prefix and _copy_installed_pip(target):
        return
    bundle = importlib.util.find_spec("ensurepip")  # some distributions leave it out
    folders = bundle.submodule_search_locations if bundle else None
    if wheels := sorted(
        wheel for folder in folders or () for wheel in Path(folder).glob("_bundled/pip-*.whl")
    ):
        with zipfile.ZipFile(wheels[-1]) as wheel:
            wheel.extractall(target)
    elif not _copy_installed_pip(target):
        log.warning(
            "this Python has neither pip nor ensurepip: the pods' virtual environments will have no pip"
        )


def _copy_installed_pip(target: Path) -> bool:
    try:
        distribution = importlib.metadata.distribution("pip")
    except importlib.metadata.PackageNotFoundError:
        return False
    home = Path(str(distribution.locate_file("")))
    information = home / f"pip-{distribution.version}.dist-info"
    if not (home / "pip").is_dir() or not information.is_dir():
        return False
    shutil.copytree(home / "pip", target / "pip")
    shutil.copytree(information, target / information.name)
    record = target / information.name / "RECORD"
    if record.is_file():  # the scripts that it names are not those of the new environments
        kept = [line for line in record.read_text().splitlines(keepends=True) if not line.startswith("..")]
        record.write_text("".join(kept))
    return True


def _link_tree(source: str, target: str) -> None:
    """Link every file below `source` into `target`, which exists; copy where the file system cannot link."""
    with os.scandir(source) as entries:
        for entry in entries:
            there = os.path.join(target, entry.name)
            if entry.is_dir(follow_symlinks=False):
                os.mkdir(there)
                _link_tree(entry.path, there)
                continue
            try:
                os.link(entry.path, there)
            except OSError:
                shutil.copy2(entry.path, there)
