"""Questions in the form of objects: may I, who am I, whose token is this. Answered at once; nothing is
stored."""

from __future__ import annotations

from kubesim import errors
from kubesim.apiserver.auth import MASTERS, Attributes, user_info
from kubesim.apiserver.calls import Call
from kubesim.apiserver.core import Core
from kubesim.apiserver.options import write_options
from kubesim.apiserver.requests import JsonObject, Reply, User
from kubesim.apiserver.writing import attempt, read_object


async def _asked(core: Core, call: Call) -> JsonObject:
    options = write_options(call.request, "CreateOptions")
    obj = read_object(call, options).obj
    name = obj["metadata"].get("name", "")
    return await core.admission.ask(core, attempt(call, "CREATE", options, name), obj) or obj


def _answer(call: Call, obj: JsonObject, status: JsonObject) -> Reply:
    meta = {key: value for key, value in obj["metadata"].items() if value is not None}
    return call.renderer.document({**obj, "metadata": meta, "status": status}, 201)


def _attributes(spec: JsonObject) -> Attributes:
    resource: JsonObject | None = spec.get("resourceAttributes")
    path: JsonObject | None = spec.get("nonResourceAttributes")
    if (resource is None) == (path is None):
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        problem = errors.invalid_value("spec.resourceAttributes", resource, why)
        raise errors.invalid(".authorization.k8s.io", "", [problem])
    if resource is None:
        path = path or {}
        return Attributes(verb=path.get("verb", ""), path=path.get("path", ""))
    return Attributes(
        verb=resource.get("verb", ""),
        path="",
        group=resource.get("group", ""),
        resource=resource.get("resource", "") or "*",
        subresource=resource.get("subresource", ""),
        namespace=resource.get("namespace", ""),
        name=resource.get("name", ""),
    )


def _decided(core: Core, call: Call, obj: JsonObject, user: User, what: Attributes) -> Reply:
    decision = core.authorizer.decide(user, what)
    status: JsonObject = {"allowed": decision.allowed}
    if decision.reason:
        status["reason"] = decision.reason
    return _answer(call, obj, status)


async def self_access(core: Core, call: Call) -> Reply:
    obj = await _asked(core, call)
    return _decided(core, call, obj, call.request.user, _attributes(obj.get("spec") or {}))


async def subject_access(core: Core, call: Call) -> Reply:
    """About somebody else; the local form only about one namespace."""
    obj = await _asked(core, call)
    spec = obj.get("spec") or {}
    what = _attributes(spec)
    user = User(name=spec.get("user", ""), groups=tuple(spec.get("groups") or ()))
    problems = []
    if not user.name and not user.groups:
        problems.append(
            errors.invalid_value("spec.user", "", "at least one of user or group must be specified")
        )
    if call.rt.namespaced and what.namespace != call.namespace:
        problems.append(
            errors.invalid_value(
                "spec.resourceAttributes.namespace",
                what.namespace,
                "must match metadata.namespace",
            )
        )
    if problems:
        raise errors.invalid(".authorization.k8s.io", "", problems)
    return _decided(core, call, obj, user, what)


async def self_rules(core: Core, call: Call) -> Reply:
    obj = await _asked(core, call)
    user, namespace = call.request.user, (obj.get("spec") or {}).get("namespace", "")
    if not namespace:
        raise errors.bad_request("no namespace on request")
    given, problems = core.authorizer.rules_for(user, namespace)
    if MASTERS in user.groups and not given:
        given = [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["*"], "nonResourceURLs": ["*"]},
        ]
    status: JsonObject = {
        "resourceRules": [one for one in given if one.get("resources")],
        "nonResourceRules": [one for one in given if one.get("nonResourceURLs")],
        "incomplete": bool(problems),
    }
    if problems:
        status["evaluationError"] = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
    return _answer(call, obj, status)


async def self_subject(core: Core, call: Call) -> Reply:
    obj = await _asked(core, call)
    meta = {**obj["metadata"], "creationTimestamp": core.environment.timestamp()}
    return _answer(call, {**obj, "metadata": meta}, {"userInfo": user_info(call.request.user)})


async def token(core: Core, call: Call) -> Reply:
    obj = await _asked(core, call)
    user = core.auth.token_user((obj.get("spec") or {}).get("token", ""))
    if user is None:
        return _answer(call, obj, {"user": {}, "error": "invalid bearer token"})
    audiences = (obj.get("spec") or {}).get("audiences")
    status: JsonObject = {"authenticated": True, "user": user_info(user)}
    if audiences:
        status["audiences"] = audiences
    return _answer(call, obj, status)
