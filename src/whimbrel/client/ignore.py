"""Which files of a working directory stay here: `.skyignore` where there is one at its root, else every `.gitignore`.

The rules are git's (nested files, negation, patterns for directories), matched by the `pathspec` library. `.git`
itself is sent, because tasks ask it for versions.
"""

from __future__ import annotations

from pathlib import Path

from pathspec import GitIgnoreSpec


class IgnoreRules:
    """The rules that hold at one directory of a tree: those of the directories above, and its own."""

    def __init__(self, specs: tuple[tuple[str, GitIgnoreSpec], ...], nested: bool) -> None:
        self._specs = specs
        self._nested = nested

    @classmethod
    def at_root(cls, root: Path) -> IgnoreRules:
        """The rules of a working directory."""
        own = _read(root / ".skyignore")
        if own is not None:
            return cls((("", own),), nested=False)
        return cls((), nested=True).below(root, "")

    def below(self, directory: Path, relative: str) -> IgnoreRules:
        """The rules inside a directory, whose path relative to the root ends with `/` (or is empty)."""
        own = _read(directory / ".gitignore") if self._nested else None
        return IgnoreRules((*self._specs, (relative, own)), True) if own is not None else self

    def ignores(self, path: str) -> bool:
        """Whether a path (relative to the root, directories with a `/` at the end) stays here.

        The deepest file that says something about it decides, as with git.
        """
        for base, spec in reversed(self._specs):
            verdict = spec.check_file(path.removeprefix(base)).include
            if verdict is not None:
                return verdict
        return False


def _read(path: Path) -> GitIgnoreSpec | None:
    try:
        return GitIgnoreSpec.from_lines(path.read_text(errors="replace").splitlines())
    except OSError:
        return None
