"""The audit log: a line of JSON for each deletion, in `$KUBESIM_HOME/audit.log`, which no command removes."""

from __future__ import annotations

import datetime as dt
import getpass
import json
import os
from collections.abc import Sequence
from pathlib import Path


def write_deletion(audit: Path, *, cluster: str, force: bool, problems: Sequence[str]) -> None:
    """Note that a cluster was deleted, by whom, and what went wrong on the way."""
    line = {
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "action": "delete cluster",
        "cluster": cluster,
        "user": _user(),
        "force": force,
        "outcome": "left behind" if problems else "deleted",
        "problems": list(problems),
    }
    audit.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(audit, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, json.dumps(line).encode() + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in many containers
        return str(os.getuid())
