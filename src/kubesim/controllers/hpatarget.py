"""What an autoscaler asks the API server for: the scale of its target, and what the target's pods use."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import orjson

from kubesim.controllers.discovery import served
from kubesim.controllers.hpamath import NoAnswer, Sample
from kubesim.controllers.objects import moment
from kubesim.schema.quantity import parse
from kubewire.client import Client
from kubewire.errors import KubeError, NotFound
from kubewire.informer import Object
from kubewire.requests import Request
from kubewire.resources import Resource

_METRICS = "/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods"
_NO_METRICS = "the server could not find the requested resource (get pods.metrics.k8s.io)"


class Targets:
    """Scales by kind, for one controller."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[tuple[str, str], Resource] = {}

    async def scale(self, hpa: Object) -> Object:
        """The Scale of the target. Raises KubeError, NoAnswer."""
        resource = await self._resource(hpa)
        name, namespace = hpa["spec"]["scaleTargetRef"]["name"], hpa["metadata"]["namespace"]
        return await self._client.get(resource, name, namespace, subresource="scale")

    async def set_scale(self, hpa: Object, scale: Object) -> None:
        """Write it back. Raises KubeError."""
        resource = await self._resource(hpa)
        namespace = hpa["metadata"]["namespace"]
        path = resource.path(namespace, scale["metadata"]["name"], "scale")
        request = Request(
            method="PUT",
            path=path,
            headers={"content-type": "application/json", "accept": "application/json"},
            body=orjson.dumps(scale),
        )
        await self._client.raw(request, self._client.deadlines.change)

    async def _resource(self, hpa: Object) -> Resource:
        ref = hpa["spec"]["scaleTargetRef"]
        group = ref.get("apiVersion", "").rpartition("/")[0]
        found = self._known.get((group, ref["kind"]))
        if found is None:
            for one in await served(self._client):
                self._known[one.resource.group, one.resource.kind] = one.resource
            found = self._known.get((group, ref["kind"]))
        if found is None:
            raise NoAnswer(f'no matches for kind "{ref["kind"]}" in group "{group}"')
        return found

    async def samples(
        self, namespace: str, selector: str, resource: str, container: str = ""
    ) -> dict[str, Sample]:
        """What the pods use, by name. Raises NoAnswer, KubeError."""
        request = Request(
            method="GET",
            path=_METRICS.format(quote(namespace)),
            query=(("labelSelector", selector),),
            headers={"accept": "application/json"},
        )
        try:
            answer: dict[str, Any] = (await self._client.raw(request, self._client.deadlines.read)).json()
        except (NotFound, KubeError) as error:
            said = _NO_METRICS if isinstance(error, NotFound) else str(error)
            why = f"unable to fetch metrics from resource metrics API: {said}"
            raise NoAnswer(f"unable to get metrics for resource {resource}: {why}") from None
        if not answer["items"]:
            why = "no metrics returned from resource metrics API"
            raise NoAnswer(f"unable to get metrics for resource {resource}: {why}")
        found = {}
        for one in answer["items"]:
            sample = _sample(one, resource, container)
            if sample is not None:
                found[one["metadata"]["name"]] = sample
        return found


def _sample(metrics: Object, resource: str, only: str) -> Sample | None:
    """The sum over the containers; None when one of them has no figure."""
    total = 0
    chosen = [one for one in metrics["containers"] if not only or one["name"] == only]
    for one in chosen:
        if resource not in one["usage"]:
            return None
        total += parse(one["usage"][resource]).milli
    at = moment(metrics["timestamp"])
    if at is None or not chosen:
        return None
    window = timedelta(seconds=float(metrics["window"].rstrip("s")))
    return Sample(value=total, at=at, window=window)
