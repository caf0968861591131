"""The place of a container: its Python, its address, its GPUs; and what the machine reports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kubesim.kubelet import machine, sandbox, venv
from kubesim.kubelet.addresses import allocate
from kubesim.kubelet.containerfiles import read_json, write_json
from kubesim.kubelet.devices import Devices, NoDevice
from kubesim.kubelet.environment import ConfigError
from kubesim.kubelet.node import capacity, labels, node_status
from kubesim.kubelet.sandbox import Place


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> venv.Template:
    return venv.template(tmp_path_factory.mktemp("node"))


def run(*argv: str, **env: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin:/bin", **env}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_virtual_environment_has_its_own_python_and_pip(template: venv.Template, tmp_path: Path) -> None:
    target = tmp_path / "a folder with spaces" / "venv"
    template.instantiate(target)
    assert run(str(target / "bin" / "python"), "-c", "import sys; print(sys.prefix)") == str(target)
    assert str(target) in run(str(target / "bin" / "pip"), "--version")
    assert run(
        str(target / "bin" / "pip"), "list", "--format=freeze", "--disable-pip-version-check"
    ).startswith("pip==")


def test_what_pip_removes_in_one_environment_stays_in_the_others(
    template: venv.Template, tmp_path: Path
) -> None:
    template.instantiate(tmp_path / "one")
    template.instantiate(tmp_path / "two")
    run(str(tmp_path / "one" / "bin" / "python"), "-m", "pip", "uninstall", "--yes", "--quiet", "pip")
    assert not list((tmp_path / "one").glob("lib/*/site-packages/pip/__init__.py"))
    assert "pip" in run(str(tmp_path / "two" / "bin" / "pip"), "--version")


def test_an_environment_that_is_moved_after_it_was_made_works(
    template: venv.Template, tmp_path: Path
) -> None:
    template.instantiate(tmp_path / "new", tmp_path / "final")
    (tmp_path / "new").rename(tmp_path / "final")
    assert str(tmp_path / "final") in run(str(tmp_path / "final" / "bin" / "pip3"), "--version")


def test_pip_from_ensurepip_works_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    made = venv.template(tmp_path)
    made.instantiate(tmp_path / "venv")
    assert str(tmp_path / "venv") in run(str(tmp_path / "venv" / "bin" / "pip"), "--version")


def test_a_place_is_prepared_twice_without_harm(template: venv.Template, tmp_path: Path) -> None:
    place = Place(tmp_path / "0")
    container = {"name": "main", "workingDir": "/srv/app"}
    for _ in range(2):
        sandbox.prepare(place, {}, container, template, tmp_path / "volumes")
    assert place.working_directory("/srv/app") == tmp_path / "0" / "root" / "srv" / "app"
    assert place.working_directory("/srv/app").is_dir()
    assert place.working_directory(None) == place.home


def test_a_container_without_a_command_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="do not pull images"):
        sandbox.make_spec(Place(Path("/x")), {"name": "main"}, {}, {}, {})


def test_arguments_alone_are_the_command_because_no_image_brings_an_entry_point() -> None:
    assert sandbox.make_spec(Place(Path("/x")), {"name": "main", "args": ["sh", "-c"]}, {}, {}, {}).argv == [
        "sh",
        "-c",
    ]


def test_commands_and_arguments_are_expanded() -> None:
    container = {"name": "main", "command": ["$(A)"], "args": ["-$(B)", "$(A)$$"], "tty": True}
    spec = sandbox.make_spec(Place(Path("/x")), container, {"PATH": "p"}, {"A": "1"}, {})
    assert spec.argv == ["1", "-$(B)", "1$"]
    assert (spec.env, spec.tty, spec.cwd) == ({"PATH": "p", "A": "1"}, True, "/x/home")


def test_a_tree_is_removed_also_when_its_permissions_forbid_it_and_links_are_not_followed(
    tmp_path: Path,
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    locked = tmp_path / "tree" / "locked"
    locked.mkdir(parents=True)
    (locked / "file").touch()
    (tmp_path / "tree" / "link").symlink_to(outside)
    os.chmod(locked, 0o000)
    sandbox.remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert (outside / "kept").exists()


def test_addresses_are_loopback_stable_and_unique() -> None:
    first = allocate("pod-1", set())
    assert first.startswith("127.")
    assert allocate("pod-1", set()) == first
    assert allocate("pod-1", {first}) != first
    taken: set[str] = set()
    for number in range(500):
        taken.add(allocate(str(number), taken))
    assert len(taken) == 500


def test_gpus_are_given_to_one_container_at_a_time() -> None:
    devices = Devices([0, 1, 2])
    assert devices.claim("u/a", 2) == [0, 1]
    assert devices.claim("u/a", 2) == [0, 1]
    with pytest.raises(NoDevice, match="2 GPUs are asked for, 1 of 3 are free"):
        devices.claim("v/a", 2)
    devices.release("u")
    assert devices.environment(devices.claim("v/a", 3)) == {
        "CUDA_VISIBLE_DEVICES": "0,1,2",
        "NVIDIA_VISIBLE_DEVICES": "0,1,2",
    }
    assert devices.environment([]) == {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
    assert Devices([]).environment([]) == {}


def test_the_machine_reports_what_it_has(tmp_path: Path) -> None:
    here = machine.inspect(tmp_path)
    assert here.cpus >= 1
    assert here.memory > 2**27
    assert capacity(here)["cpu"] == str(here.cpus)
    assert labels(here, "n")["kubesim.dev/runtime"] == "process"


def test_gpus_are_read_from_nvidia_smi() -> None:
    listing = "0, NVIDIA A100-SXM4-80GB, 81920\n1, NVIDIA A100-SXM4-80GB, 81920\nFailed to initialize NVML\n"
    gpus = machine.parse_gpus(listing)
    here = machine.Machine(cpus=8, memory=2**34, disk=2**40, gpus=gpus)
    assert capacity(here)["nvidia.com/gpu"] == "2"
    assert labels(here, "n")["nvidia.com/gpu.product"] == "NVIDIA-A100-SXM4-80GB"


def test_conditions_of_the_node_keep_their_times() -> None:
    here = machine.Machine(cpus=1, memory=2**30, disk=2**30)
    first = node_status(here, "n", {}, 1_800_000_000)
    later = node_status(here, "n", first, 1_800_000_500)
    assert [one["lastTransitionTime"] for one in later["conditions"]] == ["2027-01-15T08:00:00Z"] * 4
    assert {one["type"]: one["status"] for one in later["conditions"]}["Ready"] == "True"


def test_a_file_that_was_never_completed_counts_as_absent(tmp_path: Path) -> None:
    path = str(tmp_path / "x.json")
    assert read_json(path) is None
    Path(path).write_bytes(b'{"half": ')
    assert read_json(path) is None
    write_json(path, {"whole": 1})
    assert read_json(path) == {"whole": 1}
    assert os.listdir(tmp_path) == ["x.json"]
