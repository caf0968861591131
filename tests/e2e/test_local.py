"""`local`, the embedded Kubernetes, as several people or terminals of one home meet it."""

from __future__ import annotations

from e2e.house import House


def test_local_is_found_under_another_kubeconfig_than_the_one_it_was_made_with(fresh_house: House) -> None:
    """Its context is written there too, and removed from both with the cluster."""
    house = fresh_house
    first, second = house.root / "kubeconfig", house.root / "other" / "config"
    house.whim("local", "up")
    house.env["KUBECONFIG"] = str(second)
    assert house.whim("launch", "-c", "c1", "-y", "--infra", "local", "echo hello") == "hello\n"
    assert "kubesim-local" in second.read_text()
    house.env["KUBECONFIG"] = str(first)
    assert house.whim("exec", "c1", "echo again") == "again\n"
    house.env["KUBECONFIG"] = str(second)
    house.whim("local", "down", "-y")
    assert "kubesim-local" not in first.read_text()
    assert "kubesim-local" not in second.read_text()
