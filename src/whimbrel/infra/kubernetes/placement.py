"""Which machines a cluster's pods may go to beside their size: node selectors and tolerations of `pod_config`,
spot machines, and machines that an autoscaler will add. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from whimbrel.infra.base import NodeShape
from whimbrel.infra.kubernetes.capacity import Machine
from whimbrel.infra.kubernetes.pods import Accelerator, Spot
from whimbrel.infra.provision import Provision

SPOT_LABELS = (
    Spot(key="cloud.google.com/gke-spot", value="true"),
    Spot(key="cloud.google.com/gke-preemptible", value="true"),
    Spot(key="eks.amazonaws.com/capacityType", value="SPOT"),
    Spot(key="karpenter.sh/capacity-type", value="spot"),
    Spot(key="kubernetes.azure.com/scalesetpriority", value="spot"),
)
"""How GKE, EKS, Karpenter and AKS mark machines that may be taken away."""
_SPOT_OF = {"gke": SPOT_LABELS[0], "karpenter": SPOT_LABELS[3]}

_NVIDIA = "nvidia.com/gpu"
_GKE_NAMES = {
    "A100-80GB": "nvidia-a100-80gb",
    "H100": "nvidia-h100-80gb",
    "H100-MEGA": "nvidia-h100-mega-80gb",
    "H200": "nvidia-h200-141gb",
    "B200": "nvidia-b200",
    "GB200": "nvidia-gb200",
    "L4": "nvidia-l4",
}


def admitting(machines: Sequence[Machine], provision: Provision) -> list[Machine]:
    """The machines as they are for such a cluster: closed where its pods would not go."""
    spec = _spec(provision)
    wanted = {str(key): str(value) for key, value in (spec.get("nodeSelector") or {}).items()}
    tolerations = [one for one in spec.get("tolerations") or () if isinstance(one, Mapping)]
    if not (wanted or tolerations or provision.spot):
        return list(machines)
    return [_admitting(machine, wanted, tolerations, spot=provision.spot) for machine in machines]


def _admitting(
    machine: Machine, wanted: Mapping[str, str], tolerations: Sequence[Mapping[str, Any]], *, spot: bool
) -> Machine:
    mark = spot_of([machine]) if spot else None
    if mark is not None:
        tolerations = [*tolerations, {"key": mark.key, "operator": "Exists"}]
    if machine.keeps_out and all(tolerated(taint, tolerations) for taint in machine.keeps_out):
        machine = replace(machine, closed=machine.closed if not machine.closed.startswith("tainted") else "")
    if machine.closed:
        return machine
    if spot and mark is None:
        return replace(machine, closed="not a spot machine")
    missing = [f"{key}={value}" for key, value in wanted.items() if machine.labels.get(key) != value]
    return replace(machine, closed=f"without the label {', '.join(missing)}") if missing else machine


def tolerated(taint: Mapping[str, Any], tolerations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of them tolerates the taint, by Kubernetes' rules."""
    for one in tolerations:
        if one.get("effect") not in (None, "", taint.get("effect")):
            continue
        if one.get("operator") == "Exists":
            if one.get("key") in (None, "", taint.get("key")):
                return True
        elif one.get("key") == taint.get("key") and (one.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def spot_of(machines: Sequence[Machine]) -> Spot | None:
    """How machines here say that they may be taken away; None where none does."""
    for mark in SPOT_LABELS:
        if any(machine.labels.get(mark.key, "").lower() == mark.value.lower() for machine in machines):
            return mark
    return None


def spot_for(machines: Sequence[Machine], provision: Provision) -> Spot | None:
    """How a pod asks for such a machine, there or to come."""
    if not provision.spot:
        return None
    return spot_of(machines) or _SPOT_OF.get(provision.autoscaler)


def accelerator_to_come(shape: NodeShape, provision: Provision) -> Accelerator | None:
    """How a pod asks for accelerators that no machine has yet, so that the autoscaler adds the right one."""
    if not (shape.accelerator and shape.accelerator_count and provision.autoscaler):
        return None
    selector = {}
    if provision.autoscaler == "gke":
        name = _GKE_NAMES.get(shape.accelerator, f"nvidia-tesla-{shape.accelerator.lower()}")
        selector = {"cloud.google.com/gke-accelerator": name}
    elif provision.autoscaler == "karpenter":
        selector = {"karpenter.k8s.aws/instance-gpu-name": shape.accelerator.lower()}
    tolerations = ({"key": _NVIDIA, "operator": "Exists"},)
    return Accelerator(resource=_NVIDIA, selectors=[selector], tolerations=tolerations)


def _spec(provision: Provision) -> Mapping[str, Any]:
    found = provision.pod_config.get("spec")
    return found if isinstance(found, Mapping) else {}
