"""Image, ports, labels, volumes and `config` of a task: read, sent to the server unchanged, or refused by name."""

from __future__ import annotations

import pytest

from whimbrel.model.errors import InvalidTask
from whimbrel.model.task import Task, VolumeMount
from whimbrel.model.volume import volume_of
from whimbrel.model.yamltask import Overrides, from_wire, load_task

TASK = """
resources:
  image_id: docker:nvcr.io/nvidia/pytorch:24.05-py3
  ports: [8080, "9000-9002", 8080]
  labels: {team: vision}
  use_spot: true
  disk_size: 1TB
  priority_class: urgent
volumes:
  /mnt/data: datasets
  /mnt/ckpt/: {name: checkpoints, sub_path: run/1}
  /mnt/scratch: {size: 100Gi, config: {storage_class_name: fast}}
config:
  kubernetes:
    provision_timeout: 30
    pod_config: {spec: {hostNetwork: true}}
experimental:
  config_overrides:
    kubernetes:
      provision_timeout: 10
      kueue: {local_queue_name: gpus}
run: nvidia-smi
"""


def task(text: str = TASK, **given: object) -> Task:
    return load_task(f"name: t\n{text}", overrides=Overrides(**given), env={})  # type: ignore[arg-type]


def test_the_fields_are_read() -> None:
    resources = task().resources
    assert resources.image == "nvcr.io/nvidia/pytorch:24.05-py3"
    assert resources.ports == (8080, 9000, 9001, 9002)
    assert resources.labels == {"team": "vision"}
    assert resources.use_spot is True
    assert resources.disk_gib == 1024
    assert resources.priority_class == "urgent"
    assert task().volumes == {
        "/mnt/data": VolumeMount(name="datasets"),
        "/mnt/ckpt": VolumeMount(name="checkpoints", sub_path="run/1"),
        "/mnt/scratch": VolumeMount(size_gib=100, storage_class="fast"),
    }


def test_config_wins_over_its_older_name() -> None:
    config = task().config
    assert (config.provision_timeout, config.queue) == (30, "gpus")
    assert config.pod_config == {"spec": {"hostNetwork": True}}


def test_a_task_crosses_the_wire_unchanged() -> None:
    assert from_wire(task().to_wire()) == task()


def test_options_win_over_the_file() -> None:
    changed = task(image="docker:alpine", ports=("1", "2-3"), use_spot=False, disk_size="5").resources
    assert (changed.image, changed.ports, changed.use_spot, changed.disk_gib) == (
        "alpine",
        (1, 2, 3),
        False,
        5,
    )
    assert task(image="none").resources.image is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resources: {image_id: ami-123}", "write docker:IMAGE, for example docker:python:3.12-slim"),
        ("resources: {image_id: alpine}", "for example docker:alpine"),
        ("resources: {image_id: {us-east-1: ami-1}}", "an image for each region is a SkyPilot feature"),
        ("resources: {ports: 0}", "ports go from 1 to 65535"),
        ("resources: {ports: 9000-8000}", "the smaller one first"),
        ("resources: {ports: 1-65535}", "open 100 at most"),
        ("resources: {ports: [1-99, 200-299]}", "has 199 ports"),
        ("resources: {ports: web}", "'web' is not a port"),
        ("resources: {labels: {a b: c}}", "is no name for a label"),
        ("resources: {use_spot: maybe}", "must be true or false"),
        ("resources: {disk_size: big}", "is not a size of a disk"),
        ("volumes: {data: x}", "give an absolute path"),
        ("volumes: {/a/../b: x}", "give an absolute path"),
        ("volumes: {/a: {}}", "needs either a 'name' or a 'size'"),
        ("volumes: {/a: {size: 1, type: k8s-hostpath}}", "k8s-hostpath cannot be honoured yet"),
        ("volumes: {/a: {name: x, sub_path: ../b}}", "must be a path inside of the volume"),
        ("config: {gcp: {}}", "'gcp' is a SkyPilot field"),
        ("config: {kubernetes: {allowed_contexts: [a]}}", "it belongs into the configuration file"),
        ("config: {kubernetes: {pod_confg: {}}}", "did you mean 'pod_config'?"),
        ("experimental: {other: 1}", "unknown field 'other'"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(InvalidTask) as refused:
        task(text)
    assert words in refused.value.message


def test_a_volume_is_read_as_skypilot_writes_it() -> None:
    volume = volume_of(
        {
            "name": "data",
            "type": "k8s-pvc",
            "infra": "kubernetes/east",
            "size": "100Gi",
            "config": {"access_mode": "ReadWriteMany", "storage_class_name": "nfs", "namespace": "ml"},
        }
    )
    assert (volume.infra, volume.size_gib, volume.access_mode, volume.namespace) == (
        "k8s/east",
        100,
        "ReadWriteMany",
        "ml",
    )
    assert volume_of(volume.to_wire()) == volume


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        ({"size": 1}, "a volume needs a 'name'"),
        ({"name": "a"}, "a volume needs a 'size'"),
        ({"name": "A", "size": 1}, "lower-case letters"),
        ({"name": "a", "size": 1, "type": "runpod-network-volume"}, "cannot be honoured yet"),
        ({"name": "a", "size": 1, "config": {"access_mode": "rw"}}, "write ReadWriteOnce"),
        ({"name": "a", "size": 1, "storage_class_name": "x"}, "it belongs under 'config'"),
    ],
)
def test_a_volume_that_cannot_be_made_is_refused(wire: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidTask) as refused:
        volume_of(wire)
    assert words in refused.value.message


def test_an_existing_claim_needs_no_size() -> None:
    assert volume_of({"name": "a", "use_existing": True}).size_gib is None
