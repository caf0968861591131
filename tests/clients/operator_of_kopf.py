"""A small operator: each ConfigMap with the label `mirror` gets a twin, which goes with it."""

import asyncio
from typing import Any

import kopf
from kubernetes import client, config

config.load_kube_config()
core = client.CoreV1Api()


@kopf.on.create("configmaps", labels={"mirror": kopf.PRESENT})
@kopf.on.update("configmaps", labels={"mirror": kopf.PRESENT}, field="data")
async def mirror(name: str, namespace: str, body: kopf.Body, **_: Any) -> None:
    twin = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-twin"},
        "data": dict(body["data"]),
    }
    kopf.append_owner_reference(twin, owner=body)
    await asyncio.to_thread(
        core.patch_namespaced_config_map,
        f"{name}-twin",
        namespace,
        twin,
        field_manager="mirror",
        force=True,
        _content_type="application/apply-patch+yaml",
    )
    kopf.info(body, reason="Mirrored", message=f"{name}-twin is up to date")


@kopf.on.delete("configmaps", labels={"mirror": kopf.PRESENT})
def forget(logger: kopf.Logger, **_: Any) -> None:
    logger.info("forgotten")
