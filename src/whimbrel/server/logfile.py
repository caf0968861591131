"""Where the server writes what it does: `server.log` in its home, or standard error in the foreground.

Lines are for people: time, level, logger, sentence. What clients send is not logged, so no secret can be in
here.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
import time
from pathlib import Path

_LARGEST = 10_000_000
_QUIET = ("uvicorn", "httpx2", "httpcore2", "websockets", "asyncio", "sqlalchemy", "alembic")


def configure(path: Path, *, foreground: bool) -> None:
    """Send everything from INFO on to one place; libraries only from WARNING on."""
    handler: logging.Handler
    if foreground:
        handler = logging.StreamHandler(sys.stderr)
    else:
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=_LARGEST, backupCount=2, encoding="utf-8"
        )
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
