"""`python fake_server.py HOME WORLD`: a real server process whose infrastructure is a fake world on disk."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from world import World  # beside this file

from whimbrel.jobs import attend, keeper
from whimbrel.operations import lookout
from whimbrel.server.home import Home
from whimbrel.server.process import run

attend.GRACE = 1.0  # what is proven is the order of things, not how long each lasts
keeper.LOG_AGAIN = 0.2
lookout.EVERY = 0.5

if __name__ == "__main__":
    run(Home(root=Path(sys.argv[1])), places=lambda: World(Path(sys.argv[2])))
