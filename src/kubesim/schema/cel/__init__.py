"""The Common Expression Language, with the extensions and libraries that Kubernetes gives it.

    program = compile_("self.?replicas.orValue(1) <= 10", {"self": DYN})     # CelSyntax, with what kubectl shows
    program.run({"self": {"replicas": 3}})                                   # True, or CelError

Written for the API server and not taken from elsewhere, because the rules of custom resources and admission policies
need what engines for Python leave out: optional fields, comprehensions with two variables, objects that policies
make, libraries whose values are not JSON (quantities, URLs, addresses, the authorizer), errors with a place in the
source, and an end to what runs too long. Expressions are pure: they see what they are given and nothing of the host.

    syntax      text -> tree; macros are nodes of their own
    tree        the nodes, and how a place in the source is shown
    values      what values are, and when two are equal or one is less
    evaluation  tree -> closures
    functions   operators, conversions, times; strings and collections: cel-go's extensions; libraries: Kubernetes'
    checking    types, as far as they are known before anything runs
"""

from __future__ import annotations

from kubesim.schema.cel.checking import BOOL, DYN, INT, STRING, Kind, check, list_of, makes, map_of, object_of
from kubesim.schema.cel.evaluation import Program, program
from kubesim.schema.cel.syntax import parse
from kubesim.schema.cel.tree import CelSyntax
from kubesim.schema.cel.values import Budget, CelError, Instance, Lazy, Optional

__all__ = [
    "BOOL",
    "DYN",
    "INT",
    "STRING",
    "Budget",
    "CelError",
    "CelSyntax",
    "Instance",
    "Kind",
    "Lazy",
    "Optional",
    "Program",
    "compile_",
    "list_of",
    "makes",
    "map_of",
    "object_of",
]


def compile_(expression: str, variables: dict[str, Kind]) -> Program:
    """A program over these variables. Raises CelSyntax for what cannot be right."""
    try:
        node = parse(expression)
        return program(expression, node, check(expression, node, variables))
    except RecursionError:
        raise CelSyntax("expression recursion limit exceeded") from None
