"""Endpoints that are written by hand are seen as slices."""

from __future__ import annotations

import pytest

from controlplane import Object, control_plane
from kubewire.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES


def hand_made(*addresses: str, **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "db", "labels": labels},
        "subsets": [
            {"addresses": [{"ip": one} for one in addresses], "ports": [{"name": "sql", "port": 5432}]}
        ],
    }


@pytest.mark.anyio
async def test_endpoints_of_a_service_without_a_selector_are_mirrored() -> None:
    async with control_plane() as cluster:
        port = {"name": "sql", "port": 5432, "protocol": "TCP"}
        service = {"metadata": {"name": "db"}, "spec": {"ports": [port]}}
        await cluster.client.create(SERVICES, {"apiVersion": "v1", "kind": "Service", **service}, "default")
        await cluster.client.create(ENDPOINTS, hand_made("192.0.2.1"), "default")
        found: list[Object] = []

        def mirrored(one: Object, addresses: list[list[str]]) -> bool:
            mine = one["metadata"].get("labels", {}).get("kubernetes.io/service-name") == "db"
            if mine and [end["addresses"] for end in one["endpoints"]] == addresses:
                found.append(one)
            return bool(found)

        await cluster.informers.of(ENDPOINT_SLICES).until(lambda one: mirrored(one, [["192.0.2.1"]]))
        made = found.pop()
        manager = "endpointslicemirroring-controller.k8s.io"
        assert made["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == manager
        assert made["ports"] == [port]
        assert made["endpoints"][0]["conditions"] == {"ready": True}
        now = await cluster.client.get(ENDPOINTS, "db", "default")
        more = hand_made("192.0.2.1", "192.0.2.2")["subsets"]
        await cluster.client.replace(ENDPOINTS, {**now, "subsets": more}, "default")
        both = [["192.0.2.1"], ["192.0.2.2"]]
        await cluster.informers.of(ENDPOINT_SLICES).until(lambda one: mirrored(one, both))
        assert found[0]["metadata"]["uid"] == made["metadata"]["uid"]
        skip = {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}
        await cluster.client.patch(ENDPOINTS, "db", skip, "default")
        await cluster.gone(ENDPOINT_SLICES, made["metadata"]["name"])
