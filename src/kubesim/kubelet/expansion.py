"""References to variables in commands and environments: $(NAME), as Kubernetes expands them. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace each $(NAME) that is known; an unknown one stays as it is, and $$ is a dollar sign."""
    out: list[str] = []
    position = 0
    while (dollar := text.find("$", position)) >= 0:
        out.append(text[position:dollar])
        after = text[dollar + 1 : dollar + 2]
        if after == "$":
            out.append("$")
            position = dollar + 2
        elif after == "(" and (end := text.find(")", dollar)) >= 0:
            name = text[dollar + 2 : end]
            out.append(variables.get(name, f"$({name})"))
            position = end + 1
        else:
            out.append("$" + after)
            position = dollar + 1 + len(after)
    out.append(text[position:])
    return "".join(out)
