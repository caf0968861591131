"""`delete cluster`: honest without `--force`, complete with it.

Without `--force` a cluster is deleted only if its runtime is available (inspect.py says when), and each step has to
be seen done before the next one begins; a step that fails ends the command, what is left is kept, and repeating the
command goes on. With `--force` every step is tried, those that fail are reported, none ends the others. The record
goes last, so that a delete that was interrupted at any moment is found again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from kubesim.cluster import contexts, control
from kubesim.cluster.audit import write_deletion
from kubesim.cluster.errors import ClusterError, LeftBehind, RuntimeUnavailable
from kubesim.cluster.files import command_lock
from kubesim.cluster.home import ClusterPaths, Home
from kubesim.cluster.inspect import Facts, State, look
from kubesim.cluster.record import ClusterRecord, Phase, write_record
from kubesim.kubelet.teardown import stop_all

Say = Callable[[str], None]


class Outcome(Enum):
    """How a delete that did not raise has ended."""

    DELETED = "deleted"
    WAS_GONE = "was gone"


@dataclass(frozen=True, slots=True)
class _Step:
    what: str
    do: Callable[[], None]


class _StepFailed(Exception):
    pass


def delete(home: Home, name: str, *, force: bool, say: Say) -> Outcome:
    """Delete the cluster and everything that belongs to it."""
    paths = home.cluster(name)
    with command_lock(paths):
        facts = look(paths, deep=not force)
        if facts.state is State.ABSENT:
            return Outcome.WAS_GONE
        if facts.problems and not force:
            raise RuntimeUnavailable(
                f"Cluster {name!r} is not available: "
                + "; ".join(facts.problems)
                + ". It was not deleted, and everything of it was kept.",
                remedy="To remove everything that belongs to it, whatever state it is in: "
                f"kubesim delete cluster --name {name} --force",
            )
        for problem in facts.problems:
            say(f"Not available, but forced: {problem}")
        if facts.record:
            _tolerate(lambda record: write_record(paths.record, record), facts.record, force)
        problems = _run(_steps(paths, facts, force, say), force, say, name)
        write_deletion(home.audit, cluster=name, force=force, problems=problems)
        problems += _run([_Step("the cluster's record", lambda: _remove_record(paths))], force, say, name)
        if problems:
            raise LeftBehind(
                f"Cluster {name!r} was deleted by force, but this could not be done: " + "; ".join(problems),
                remedy=f"It is also written in {home.audit}.",
            )
    return Outcome.DELETED


def _tolerate(write: Callable[[ClusterRecord], None], record: ClusterRecord, force: bool) -> None:
    try:
        write(replace(record, phase=Phase.DELETING))
    except OSError:
        if not force:  # a read-only or full disk: deleting files may still work, and was asked for
            raise


def _steps(paths: ClusterPaths, facts: Facts, force: bool, say: Say) -> list[_Step]:
    def end_daemon() -> None:
        if facts.daemon and not control.stop(facts.daemon, force=force):
            raise _StepFailed(f"the daemon (process {facts.daemon.pid}) does not end")

    def end_pods() -> None:
        left = stop_all(paths.node)
        if left:
            raise _StepFailed("processes of its pods do not end: " + "; ".join(left))

    def remove_context() -> None:
        for line in contexts.remove(paths, facts.record, force=force):
            say(line)

    return [
        _Step("its daemon", end_daemon),
        _Step("the processes of its pods", end_pods),
        _Step("its kubeconfig context", remove_context),
        _Step("its files", lambda: _remove_files(paths)),
    ]


def _run(steps: list[_Step], force: bool, say: Say, name: str) -> list[str]:
    """Do the steps; the problems of those that failed, which without `force` is none, because the first raises."""
    problems: list[str] = []
    for step in steps:
        try:
            step.do()
        except (_StepFailed, OSError, ClusterError, ValueError) as error:
            problem = f"{step.what}: {error}"
            if not force:
                raise RuntimeUnavailable(
                    f"Cluster {name!r} could not be deleted. {problem}. What is left of it was kept.",
                    remedy=f"Repeat the command, or remove everything: kubesim delete cluster --name {name} --force",
                ) from error
            say(f"Failed: {problem}")
            problems.append(problem)
    return problems


def _remove_files(paths: ClusterPaths) -> None:
    """Everything but the record, which is what an interrupted delete is found by."""
    failed: list[str] = []

    def note(
        _function: object, path: str, information: tuple[type[BaseException], BaseException, object]
    ) -> None:
        failed.append(f"{path}: {information[1]}")

    for entry in sorted(os.scandir(paths.root), key=lambda entry: entry.name):
        if entry.name == paths.record.name:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, onerror=note)
        else:
            try:
                os.unlink(entry.path)
            except OSError as error:
                failed.append(f"{entry.path}: {error}")
    if failed:
        raise _StepFailed(f"{failed[0]}" + (f" and {len(failed) - 1} more" if len(failed) > 1 else ""))


def _remove_record(paths: ClusterPaths) -> None:
    if paths.record.is_dir():  # somebody's damage; by now only --force comes here
        shutil.rmtree(paths.record)
    else:
        paths.record.unlink(missing_ok=True)
    paths.root.rmdir()
