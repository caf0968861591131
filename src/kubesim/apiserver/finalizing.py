"""namespaces/NAME/finalize: how the namespace controller lets a namespace go."""

from __future__ import annotations

from kubesim.apiserver.calls import Call
from kubesim.apiserver.core import Core
from kubesim.apiserver.options import write_options
from kubesim.apiserver.requests import JsonObject, Reply
from kubesim.apiserver.writing import attempt, change_raw, read_object, reply


async def finalize(core: Core, call: Call) -> Reply:
    """PUT: only `spec.finalizers` changes; the namespace is gone with the last one."""
    options = write_options(call.request, "UpdateOptions")
    wanted = read_object(call, options).obj
    tried = attempt(call, "UPDATE", options, call.name, call.renderer.decoded(call.head()))
    wanted = await core.admission.ask(core, tried, wanted) or wanted
    finalizers = (wanted.get("spec") or {}).get("finalizers") or []

    def change(old: JsonObject) -> JsonObject:
        spec = {key: value for key, value in old.get("spec", {}).items() if key != "finalizers"}
        if finalizers:
            spec["finalizers"] = finalizers
        return {**old, "spec": spec}

    return reply(call, await change_raw(core, call, change, options))
