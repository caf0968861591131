"""Draw a recorded terminal session as docs/terminal.svg: `sh -c '...' | python scripts/build_picture.py`.

The picture in the README is a real session; this only puts its text into a frame. Fonts are the reader's own.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).resolve().parents[1] / "docs" / "terminal.svg"


def main() -> None:
    """Read a session from stdin: lines that begin with `$ ` are what was typed."""
    console = Console(
        record=True, width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for line in sys.stdin.read().splitlines():
        style = "bold green" if line.startswith("$ ") else "dim" if line.startswith(("... ", "  ")) else ""
        console.print(Text(line, style=style))
    svg = console.export_svg(title="whim")
    TARGET.write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))


if __name__ == "__main__":
    main()
