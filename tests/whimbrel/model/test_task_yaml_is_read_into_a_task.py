"""What a correct task YAML becomes."""

from pathlib import Path

import pytest

from whimbrel.model.task import Accelerators, Amount, Resources, Task
from whimbrel.model.yamltask import Overrides, from_wire, load_task, substitute


def test_every_field_of_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "data.csv").write_text("1")
    file = tmp_path / "task.yaml"
    file.write_text(
        """
name: train
workdir: code
num_nodes: 2
resources:
  cpus: 4+
  memory: 16GB+
  accelerators: h100:8
  infra: kubernetes/prod/eu
envs:
  EPOCHS: 3
  MODE: no
  RATE: 1e-3
secrets:
  TOKEN:
file_mounts:
  /data/train.csv: ./data.csv
setup: pip install numpy
run: |
  python train.py
"""
    )
    task = load_task(file, overrides=Overrides(secrets={"TOKEN": "s3cret"}), env={}, cwd=tmp_path)
    assert task == Task(
        name="train",
        workdir=str(tmp_path / "code"),
        num_nodes=2,
        resources=Resources(
            cpus=Amount(value=4, at_least=True),
            memory=Amount(value=16, at_least=True),
            accelerators=Accelerators(name="H100", count=8),
            infra="k8s/prod/eu",
        ),
        envs={"EPOCHS": "3", "MODE": "no", "RATE": "1e-3"},
        secrets={"TOKEN": "s3cret"},
        file_mounts={"/data/train.csv": str(tmp_path / "data.csv")},
        setup="pip install numpy",
        run="python train.py\n",
    )


def test_scalars_follow_yaml_1_2_and_not_1_1() -> None:
    task = load_task("envs:\n  A: no\n  B: 12:30:45\n  C: 0755\n  D: on\n  E: true\nname: yes\n", env={})
    assert task.envs == {"A": "no", "B": "12:30:45", "C": "0755", "D": "on", "E": "true"}
    assert task.name == "yes"


@pytest.mark.parametrize("text", ["2", "0o2", "0x2", "+2"])
def test_whole_numbers_of_yaml_1_2_are_understood(text: str) -> None:
    assert load_task(f"num_nodes: {text}\n", env={}).num_nodes == 2


def test_aliases_and_merge_keys_work_and_own_keys_win() -> None:
    task = load_task(
        "envs: &base {A: 1, B: 2}\nsecrets: {}\nresources: &r\n  cpus: 1\nsetup: &s echo\nrun: *s\n", env={}
    )
    assert (task.run, task.envs) == ("echo", {"A": "1", "B": "2"})
    merged = load_task("envs:\n  <<: {A: 1, B: 2}\n  B: 3\n", env={})
    assert merged.envs == {"A": "1", "B": "3"}
    listed = load_task("envs:\n  <<: [{A: 1}, {A: 2, C: 4}]\n", env={})
    assert listed.envs == {"A": "1", "C": "4"}, "the first of several bases wins, as YAML says"


def test_a_task_may_be_made_of_options_alone() -> None:
    task = load_task(
        None, overrides=Overrides(run="nvidia-smi", gpus="a100-80gb", cpus="2", infra="local"), env={}
    )
    assert task.run == "nvidia-smi"
    assert task.resources == Resources(
        cpus=Amount(value=2), accelerators=Accelerators(name="A100-80GB"), infra="local"
    )


def test_options_win_over_the_file(tmp_path: Path) -> None:
    over = Overrides(
        name="b",
        num_nodes=3,
        cpus="8",
        memory="512Mi",
        run="true",
        workdir=str(tmp_path),
        envs={"A": "2", "N": "3"},
    )
    task = load_task(
        "name: a\nnum_nodes: 1\nresources: {cpus: 1, memory: 2}\nrun: x\nenvs: {A: 1}\n",
        overrides=over,
        env={},
    )
    assert (task.name, task.num_nodes, task.run, task.workdir) == ("b", 3, "true", str(tmp_path))
    assert task.resources.cpus == Amount(value=8)
    assert task.resources.memory == Amount(value=0.5)
    assert task.envs == {"A": "2", "N": "3"}


def test_an_option_without_a_value_takes_it_from_the_environment() -> None:
    over = Overrides(envs={"A": None}, secrets={"S": None})
    task = load_task("envs: {A: }\nsecrets: {S: }\n", overrides=over, env={"A": "1", "S": "2"})
    assert (task.envs, task.secrets) == ({"A": "1"}, {"S": "2"})


def test_variables_are_put_into_paths_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "v7").mkdir()
    task = load_task(
        "envs: {V: 7, D: /data}\nworkdir: v${V}\nfile_mounts: {'$D/x': './v$V'}\nrun: echo ${V}\n",
        env={},
        cwd=tmp_path,
    )
    assert task.workdir == str(tmp_path / "v7")
    assert task.file_mounts == {"/data/x": str(tmp_path / "v7")}
    assert task.run == "echo ${V}"


def test_an_unknown_variable_stays_as_it_is() -> None:
    assert substitute("$A-${B}-$C_${A}", {"A": "1"}) == "1-${B}-$C_1"


def test_home_is_the_callers_home(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    assert load_task("workdir: ~/x\n", env={"HOME": str(tmp_path)}).workdir == str(tmp_path / "x")


def test_null_means_not_given() -> None:
    assert load_task("name:\nworkdir: ~\nresources: {cpus: null}\nenvs:\nrun: x\n", env={}) == Task(run="x")


def test_an_empty_second_document_is_no_second_document() -> None:
    assert load_task("---\nrun: x\n---\n", env={}).run == "x"


@pytest.mark.parametrize(
    ("text", "value", "at_least"),
    [
        ("16", 16, False),
        ("16+", 16, True),
        ("16GB", 16, False),
        ("16 GiB+", 16, True),
        ("2T", 2048, False),
        ("512mb", 0.5, False),
    ],
)
def test_memory_has_units_and_at_least(text: str, value: float, at_least: bool) -> None:
    task = load_task(f"resources: {{memory: '{text}'}}\n", env={})
    assert task.resources.memory == Amount(value=value, at_least=at_least)


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("A100", "A100:1"),
        ("a100-80g:2", "A100-80GB:2"),
        ("{H100: 8}", "H100:8"),
        ("['V100:4']", "V100:4"),
        ("{L4: }", "L4:1"),
        ("Newest9000:3", "Newest9000:3"),
    ],
)
def test_accelerators_have_one_spelling(yaml: str, expected: str) -> None:
    assert str(load_task(f"resources:\n  accelerators: {yaml}\n", env={}).resources.accelerators) == expected


@pytest.mark.parametrize(
    "task",
    [
        Task(),
        Task(
            name="x",
            workdir="/w",
            num_nodes=4,
            resources=Resources(
                cpus=Amount(value=0.125, at_least=True),
                memory=Amount(value=0.0009765625),
                accelerators=Accelerators(name="H100", count=8),
                infra="k8s/a/b",
            ),
            envs={"A": "b: c\n"},
            secrets={"S": "'\""},
            file_mounts={"~/x": "/y"},
            setup="a",
            run="b",
        ),
    ],
)
def test_a_task_comes_back_from_the_wire_as_it_was(task: Task) -> None:
    assert from_wire(task.to_wire()) == task
