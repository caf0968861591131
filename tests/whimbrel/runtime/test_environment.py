"""What jobs find in their environment."""

from __future__ import annotations

import json

from whimbrel.runtime.environment import Place, job_environment, make_task_id, setup_environment

PLACE = Place(
    cluster="c1",
    infra="k8s/prod",
    ips=["10.0.0.1", "10.0.0.2"],
    gpus_per_node=4,
    user="alice",
    envs={"A": "1", "SKYPILOT_NODE_RANK": "99"},
    secrets={"TOKEN": "t"},
)


def test_a_job_knows_its_rank_its_peers_and_its_names() -> None:
    env = job_environment(PLACE, rank=1, job_id=7, task_id="id")
    for family in ("WHIMBREL", "SKYPILOT"):
        assert env[f"{family}_NODE_RANK"] == "1"
        assert env[f"{family}_NODE_IPS"] == "10.0.0.1\n10.0.0.2"
        assert env[f"{family}_NUM_NODES"] == "2"
        assert env[f"{family}_NUM_GPUS_PER_NODE"] == "4"
        assert env[f"{family}_TASK_ID"] == "id"
        assert env[f"{family}_INTERNAL_JOB_ID"] == "7"
        assert env[f"{family}_USER"] == "alice"
        assert json.loads(env[f"{family}_CLUSTER_INFO"]) == {
            "cluster_name": "c1",
            "cloud": "Kubernetes",
            "region": "prod",
            "zone": None,
        }


def test_the_users_own_variables_and_secrets_are_there() -> None:
    env = job_environment(PLACE, rank=0, job_id=1, task_id="id")
    assert (env["A"], env["TOKEN"]) == ("1", "t")


def test_output_is_not_held_back_unless_the_user_wants_so() -> None:
    assert job_environment(PLACE, rank=0, job_id=1, task_id="id")["PYTHONUNBUFFERED"] == "1"
    own = Place(cluster="c", infra="k8s/x", ips=["1"], envs={"PYTHONUNBUFFERED": ""})
    assert job_environment(own, rank=0, job_id=1, task_id="id")["PYTHONUNBUFFERED"] == ""


def test_setup_has_its_own_names() -> None:
    env = setup_environment(PLACE, rank=1, task_id="id")
    assert env["SKYPILOT_SETUP_NODE_RANK"] == env["WHIMBREL_SETUP_NODE_RANK"] == "1"
    assert env["SKYPILOT_SETUP_NODE_IPS"] == "10.0.0.1\n10.0.0.2"
    assert env["SKYPILOT_SETUP_NUM_GPUS_PER_NODE"] == "4"
    assert "SKYPILOT_INTERNAL_JOB_ID" not in env


def test_a_place_does_not_show_its_secrets() -> None:
    assert "TOKEN" not in repr(PLACE)


def test_a_task_id_tells_where_and_when() -> None:
    assert make_task_id("c1", "7", submitted_at="2026-01-02") == "whimbrel-2026-01-02_c1_7"
