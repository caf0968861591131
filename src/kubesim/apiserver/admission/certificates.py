"""Who asks for a certificate is who sent the request, whatever the request says."""

from __future__ import annotations

from kubesim.apiserver.admission.base import Attempt, Cluster
from kubesim.apiserver.requests import JsonObject

_SAID = ("username", "uid", "groups", "extra")


class Requestors:
    async def admit(self, cluster: Cluster, attempt: Attempt, obj: JsonObject) -> JsonObject:
        if not attempt.creates("certificatesigningrequests.certificates.k8s.io"):
            return obj
        user = attempt.user
        spec = {key: value for key, value in obj["spec"].items() if key not in _SAID}
        spec["username"] = user.name
        if user.uid:
            spec["uid"] = user.uid
        if user.groups:
            spec["groups"] = list(user.groups)
        if user.extra:
            spec["extra"] = {key: list(values) for key, values in user.extra.items()}
        return {**obj, "spec": spec}
