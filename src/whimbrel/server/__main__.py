"""`python -m whimbrel.server --home DIR [--foreground]`: one API server, until it is told to leave."""

from __future__ import annotations

import argparse
from pathlib import Path

from whimbrel.server.home import Home
from whimbrel.server.process import run


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m whimbrel.server", description="The API server of whimbrel."
    )
    parser.add_argument("--home", type=Path, required=True, help="where it keeps its state")
    parser.add_argument(
        "--foreground", action="store_true", help="log to standard error, not to DIR/server.log"
    )
    arguments = parser.parse_args()
    run(Home(root=arguments.home.expanduser().absolute()), foreground=arguments.foreground)


if __name__ == "__main__":
    main()
