"""What whim does with a Kubernetes, as a user does it: nothing here knows which one it is."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from anycluster.place import Place
from e2e.house import eventually
from kubewire.resources import PODS

LABEL = "whimbrel.dev/cluster"


@pytest.fixture
def cluster(place: Place) -> Iterator[str]:
    """The name of a cluster that nobody else has; it is taken down afterwards."""
    name = f"wt-{uuid.uuid4().hex[:8]}"
    yield name
    if name in [row["name"] for row in place.house.json("status")["clusters"]]:
        place.house.whim("down", "-y", name, timeout=120)


def pods(place: Place, cluster: str) -> list[str]:
    """The names of its pods that nobody is deleting."""

    async def look() -> list[str]:
        async with place.client() as client:
            found = await client.list(PODS, place.namespace, label_selector=f"{LABEL}={cluster}")
        return [
            pod["metadata"]["name"] for pod in found.items if not pod["metadata"].get("deletionTimestamp")
        ]

    return asyncio.run(look())


def test_check_says_that_it_can_be_used_and_which_version_it_is(place: Place) -> None:
    (result,) = place.house.json("check", place.infra)["results"]
    assert result["usable"], result
    assert result["version"].startswith("v1.")
    assert result["identity"]


def test_two_nodes_are_made_set_up_used_and_removed(place: Place, cluster: str, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "data.txt").write_text("from the workdir\n")
    task = tmp_path / "task.yaml"
    task.write_text(
        f"num_nodes: 2\nworkdir: {tmp_path / 'work'}\nenvs: {{WORD: hello}}\n"
        "setup: echo set up > ~/setup.txt\n"
        "run: |\n"
        "  echo $WORD from rank $WHIMBREL_NODE_RANK of $WHIMBREL_NUM_NODES\n"
        "  cat data.txt ~/setup.txt\n"
        "  echo $WHIMBREL_NODE_IPS | wc -w\n"
    )
    printed = place.launch(cluster, str(task))
    for rank in (0, 1):
        assert f"hello from rank {rank} of 2" in printed
    assert printed.count("from the workdir") == printed.count("set up") == 2
    assert len(pods(place, cluster)) == 2
    place.house.whim("down", "-y", cluster, timeout=120)
    assert pods(place, cluster) == []
    assert place.house.whim("logs", cluster, "1") == printed


def test_jobs_have_exit_codes_are_cancelled_and_read_again(place: Place, cluster: str) -> None:
    assert place.launch(cluster, "echo first").endswith("first\n")
    place.house.fails("exec", cluster, "echo about to fail; exit 7", code=100)
    place.house.whim("exec", cluster, "-d", "echo begun; sleep 600")
    eventually(
        lambda: "begun" in place.house.run("whim", "logs", cluster, "3", "--no-follow").stdout,
        "the job prints",
        seconds=60,
    )
    place.house.whim("cancel", "-y", cluster, "3")
    eventually(lambda: statuses(place, cluster)[3] == "CANCELLED", "the job has been cancelled", seconds=60)
    assert statuses(place, cluster) == {1: "SUCCEEDED", 2: "FAILED", 3: "CANCELLED"}


def statuses(place: Place, cluster: str) -> dict[int, str]:
    """Of all its jobs."""
    listed = place.house.json("queue", cluster)["clusters"][0]["jobs"]
    return {job["id"]: job["status"] for job in listed}


def test_files_are_copied_in_and_out(place: Place, cluster: str, tmp_path: Path) -> None:
    place.launch(cluster, "true")
    data = bytes(range(256)) * 4096
    (tmp_path / "there").write_bytes(data)
    place.house.whim("cp", str(tmp_path / "there"), f"{cluster}:copied", timeout=120)
    place.house.whim("cp", f"{cluster}:copied", str(tmp_path / "back"), timeout=120)
    assert (tmp_path / "back").read_bytes() == data


def test_a_node_that_somebody_deletes_is_noticed_and_made_anew(place: Place, cluster: str) -> None:
    place.launch(cluster, "true")
    (name,) = pods(place, cluster)

    async def delete() -> None:
        async with place.client() as client:
            await client.delete(PODS, name, place.namespace, grace_period=0)

    asyncio.run(delete())

    def noticed() -> bool:
        (row,) = place.house.json("status", "-r", cluster)["clusters"]
        return bool(row["status"] == "INIT" and name in row["last_error"]["message"])

    eventually(noticed, "status tells of the node that is gone", seconds=60)
    assert place.launch(cluster, "echo again").endswith("again\n")
