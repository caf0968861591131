"""The variables that expressions of webhooks and admission policies have, and what is wrong with an expression.

Pure: what the variables are for a request is the API server's business.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from kubesim.schema import cel
from kubesim.schema.cel import BOOL, DYN, STRING, CelSyntax, Kind


def _named(*names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, STRING)


_KIND = cel.object_of("kubernetes.GroupVersionKind", _named("group", "version", "kind"))
_RESOURCE = cel.object_of("kubernetes.GroupVersionResource", _named("group", "version", "resource"))
_USER = cel.object_of(
    "kubernetes.UserInfo",
    _named("username", "uid") | {"groups": cel.list_of(STRING), "extra": cel.map_of(cel.list_of(STRING))},
)
_REQUEST = cel.object_of(
    "kubernetes.AdmissionRequest",
    {
        **{"kind": _KIND, "resource": _RESOURCE, "requestKind": _KIND, "requestResource": _RESOURCE},
        **_named("subResource", "requestSubResource", "name", "namespace", "operation"),
        **{"userInfo": _USER, "dryRun": BOOL, "options": DYN},
    },
)
_NAMESPACE = cel.object_of(
    "kubernetes.Namespace",
    {
        "metadata": cel.object_of(
            "kubernetes.NamespaceMetadata",
            {
                **_named("name", "generateName", "namespace", "uid", "resourceVersion"),
                **{"labels": cel.map_of(STRING), "annotations": cel.map_of(STRING)},
                **{"UID": STRING, "creationTimestamp": DYN, "deletionGracePeriodSeconds": cel.INT},
                **{"deletionTimestamp": DYN, "generation": cel.INT, "finalizers": cel.list_of(STRING)},
            },
        ),
        "spec": cel.object_of("kubernetes.NamespaceSpec", {"finalizers": cel.list_of(STRING)}),
        "status": cel.object_of("kubernetes.NamespaceStatus", {"phase": STRING}),
    },
)


@lru_cache(maxsize=4096)
def compiled(
    expression: str,
    policy: bool = False,
    params: bool = False,
    declared: tuple[str, ...] = (),
    makes: bool = False,
) -> cel.Program:
    """An expression of a webhook, or of a policy with these variables before it. Raises CelSyntax."""
    return cel.compile_(expression, kinds_of(policy, params, declared, makes))


def kinds_of(
    policy: bool = False, params: bool = False, declared: tuple[str, ...] = (), makes: bool = False
) -> dict[str, Kind]:
    """The variables that there are."""
    kinds: dict[str, Kind] = {
        "object": DYN,
        "oldObject": DYN,
        "request": _REQUEST,
        "authorizer": Kind("A"),
    }
    if policy:
        kinds["namespaceObject"] = _NAMESPACE
        kinds["variables"] = cel.object_of("kubernetes.variables", dict.fromkeys(declared, DYN))
    if params:
        kinds["params"] = DYN
    if makes:
        kinds |= cel.makes("Object", "JSONPatch")
    return kinds


def mistake(program_of: Callable[[], cel.Program], result: str) -> str:
    """Why an expression is refused: it does not compile, or gives the wrong type; empty where it is right."""
    try:
        made = program_of()
    except CelSyntax as wrong:
        return f"compilation failed: {wrong}"
    if made.result in ("*", *result):
        return ""
    words = {
        "b": "bool",
        "s": "string",
        "sn": "one of [string null_type]",
        "l": "list(JSONPatch)",
        "m": "Object",
    }
    return f"must evaluate to {words.get(result, result)}"
