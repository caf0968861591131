"""The columns of every built-in kind that has its own."""

from kubesim.apiserver.columns.column import CREATED, NAME, Column
from kubesim.apiserver.columns.kinds import COLUMNS

__all__ = ["COLUMNS", "CREATED", "NAME", "Column"]
