"""The command of a node: what its pod runs, so that jobs can be started in it by exec. Pure."""

from __future__ import annotations

from whimbrel.runtime.shell import load


def node_command() -> list[str]:
    """Waits, reaps, and passes the end of the node on to the jobs."""
    return ["sh", "-c", load("base", "cancel", "pid1")]
