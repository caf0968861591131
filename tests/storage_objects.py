"""Claims, volumes and classes as tests write them."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def volume(name: str, size: str = "1Gi", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": spec.pop("labels", {})},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce"],
            "nfs": {"server": "s", "path": "/"},
            **spec,
        },
        "status": {"phase": "Available"},
    }


def claim(name: str, size: str = "1Gi", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default", "uid": f"u-{name}"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec},
    }


def fresh(name: str, **spec: Any) -> Object:
    made = claim(name, **spec)
    del made["metadata"]["uid"]
    return made


def storage_class(name: str, *, provisioner: str = "example.com/p", **more: Any) -> Object:
    annotations = (
        {"storageclass.kubernetes.io/is-default-class": "true"} if more.pop("default", False) else {}
    )
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": provisioner,
        **more,
    }


def phase(wanted: str) -> Any:
    return lambda obj: obj.get("status", {}).get("phase") == wanted


def user(name: str, claim_name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim_name}}],
        },
    }
