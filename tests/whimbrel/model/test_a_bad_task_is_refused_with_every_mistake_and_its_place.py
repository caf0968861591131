"""Every mistake in a task YAML is told at once, with file, line, column, and what would mend it."""

from pathlib import Path

import pytest

from whimbrel.model.errors import InvalidTask
from whimbrel.model.taskfields import SKYPILOT_RESOURCES, SKYPILOT_TASK
from whimbrel.model.yamltask import Overrides, load_task

NOTHING = Overrides()


def refusal(
    text: str, tmp_path: Path, overrides: Overrides = NOTHING, env: dict[str, str] | None = None
) -> InvalidTask:
    """The error that a file with this text ends in."""
    (tmp_path / "task.yaml").write_bytes(text.encode())
    with pytest.raises(InvalidTask) as refused:
        load_task("task.yaml", overrides=overrides, env=env or {}, cwd=tmp_path)
    return refused.value


def test_the_issues_example_reads_as_it_should(tmp_path: Path) -> None:
    text = "name: x\nnum_nodes: 1\nsetup: a\nrun: b\nenvs:\n  A: 1\nresource:\n  cpus: 2\n"
    error = refusal(text, tmp_path)
    assert error.message == "task.yaml:7:1: unknown field 'resource'; did you mean 'resources'?"
    assert error.details["errors"] == [
        {
            "file": "task.yaml",
            "line": 7,
            "column": 1,
            "field": "resource",
            "message": "unknown field 'resource'",
            "hint": "did you mean 'resources'?",
        }
    ]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    error = refusal(
        "num_nodes: '2'\nworkdir: nowhere\nresources:\n  cpu: 4\n  ports: 80x\nsecrets:\n  T:\nrun: [a]\n",
        tmp_path,
    )
    lines = error.message.splitlines()
    assert lines[0] == "6 problems:"
    assert [line.split(": ")[0] for line in lines[1:]] == [
        "task.yaml:1:12",
        "task.yaml:2:10",
        "task.yaml:4:3",
        "task.yaml:5:10",
        "task.yaml:7:5",
        "task.yaml:8:6",
    ]
    assert len(error.details["errors"]) == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resourcs: {}", "unknown field 'resourcs'; did you mean 'resources'?"),
        ("cpus: 4", "unknown field 'cpus'; it belongs under 'resources'"),
        ("gpus: 4", "unknown field 'gpus'; did you mean 'accelerators' under 'resources'?"),
        ("resources: {gpu: 4}", "unknown field 'gpu'; did you mean 'accelerators'?"),
        ("resources: {num_nodes: 4}", "unknown field 'num_nodes'; it belongs at the top of the task"),
        ("command: x", "unknown field 'command'; did you mean 'run'?"),
        ("Run: x", "unknown field 'Run'; did you mean 'run'?"),
        ("zebra: x", "unknown field 'zebra'; known fields: name, workdir, num_nodes, resources, envs, secrets,"),
        ("num-nodes: 2", "unknown field 'num-nodes'; did you mean 'num_nodes'?"),
        ("num_nodes: '2'", "'num_nodes' must be a whole number, found the text '2'; write it without quotes"),
        ("num_nodes: 1.5", "'num_nodes' must be a whole number, found a number (1.5)"),
        ("num_nodes: true", "'num_nodes' must be a whole number, found a truth value (true)"),
        ("num_nodes: 0", "'num_nodes' must be between 1 and 1000, found 0"),
        ("num_nodes: 99999999999999999999", "'num_nodes' must be between 1 and 1000"),
        ("name: 5", "'name' must be text, found a number (5); put it in quotes: name: '5'"),
        ('name: ""', "'name' must be one line of 1 to 128 printable characters"),
        ("run: [echo, hi]", "'run' must be text (a shell script), found a list; write 'run: |'"),
        ("run: {a: b}", "'run' must be text (a shell script), found a mapping"),
        ("setup: 5", "'setup' must be text (a shell script), found a number (5)"),
        ("resources: 4", "'resources' must be a mapping of fields, found a number (4)"),
        ("resources: {cpus: lots}", "'resources.cpus': 'lots' is not a number of CPUs; write for example 4, 0.5 or 4+"),
        ("resources: {cpus: true}", "'resources.cpus' must be a number of CPUs, found a truth value (true)"),
        ("resources: {cpus: -1}", "'resources.cpus': '-1' is not a number of CPUs"),
        ("resources: {cpus: .inf}", "'resources.cpus' must be a number of CPUs, found a number (.inf)"),
        ("resources: {cpus: 0}", "'resources.cpus': 0 CPUs cannot be asked for"),
        ("resources: {memory: 16XB}", "'resources.memory': '16XB' is not an amount of memory"),
        ("resources: {memory: 4x}", "memory as a multiple of the CPUs is a SkyPilot feature"),
        ("resources: {memory: [1]}", "'resources.memory' must be an amount of memory, found a list"),
        ("resources: {accelerators: 'H100:some'}", "'some' is not a number of accelerators"),
        ("resources: {accelerators: 'H100:0.5'}", "a fraction of an accelerator (H100:0.5) is a SkyPilot feature"),
        ("resources: {accelerators: 'H100:0'}", "'0' is not a number of accelerators; write a whole number, 1 or more"),
        ("resources: {accelerators: 'H100:nan'}", "'nan' is not a number of accelerators"),
        ("resources: {accelerators: [A, B]}", "a choice of accelerators is a SkyPilot feature"),
        ("resources: {accelerators: tpu-v5e-8}", "the TPU 'tpu-v5e-8' is a SkyPilot feature"),
        ("resources: {accelerators: 4}", "must be an accelerator like H100:8, found a number (4)"),
        ("resources: {infra: aws/us-east-1}", "the infra 'aws/us-east-1' is a SkyPilot feature"),
        ("resources: {infra: prod}", "or local; for a context of your kubeconfig: k8s/prod"),
        ("resources: {infra: k8s/}", "the context is missing after 'k8s/'; `whim check` lists the contexts"),
        ("workdir: {url: x}", "a git repository as 'workdir' is a SkyPilot feature"),
        ("workdir: ''", "'workdir' is empty"),
        ("workdir: nowhere", "/nowhere does not exist; 'nowhere' is looked for in the current directory"),
        ("workdir: task.yaml", "task.yaml is not a directory"),
        ("workdir: ${X}/y", "/${X}/y does not exist; 'X' has no value in the task's 'envs'"),
        ("envs: [A]", "'envs' must be a mapping of names to values, found a list"),
        ("envs: {1x: 3}", "'1x' is not the name of a variable"),
        ("envs: {A: [1]}", "'envs.A' must be text, found a list; quote JSON values"),
        ("envs: {WHIMBREL_X: 1}", "'WHIMBREL_X' is a name that whimbrel sets itself"),
        ("envs: {A: }", "the variable 'A' has no value; give it with --env A=... or, from your environment, --env A"),
        ("secrets: {A: }", "the secret 'A' has no value; give it with --secret A=... or, from your"),
        ("secrets: ['secrets:A']", "'secrets' as a list of references is a SkyPilot feature"),
        ("envs: {A: 1}\nsecrets: {A: 2}", "'A' is in 'envs' too; keep one of them"),
        ("file_mounts: x", "'file_mounts' must be a mapping of paths on the node to paths on this machine"),
        ("file_mounts: {/a: s3://b/c}", "mounting 's3://b/c' is a SkyPilot feature"),
        ("file_mounts: {/a: {source: b}}", "a storage mount is a SkyPilot feature"),
        ("file_mounts: {/a: nowhere}", "/nowhere does not exist"),
        ("file_mounts: {/../a: task.yaml}", "'/../a' cannot be a path on the node"),
        ("file_mounts: {/: task.yaml}", "'/' cannot be a path on the node"),
        ("- a\n- b", "a task must be a mapping of fields, found a list"),
        ("just words", "a task must be a mapping of fields, found the text 'just words'"),
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("name: a\n---\nname: b", "a file of several documents (a pipeline or job group) is a SkyPilot feature"),
        ("name: a\nname: b", "the field 'name' comes twice; the first one is on line 1"),
        ("envs: &a {x: *a}", "it contains itself"),
        ("name: !!python/object:os.system x", "is not supported here"),
        ("? [a]\n: b", "a key must be a word, not a list or a mapping"),
        ("envs:\n  <<: 5", "'<<' merges mappings, and this is none"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_in_words_with_a_place(text: str, expected: str, tmp_path: Path) -> None:
    message = refusal(text, tmp_path).message
    assert expected in message
    assert message.startswith("task.yaml:"), message


@pytest.mark.parametrize(
    ("text", "place", "line", "hint"),
    [
        ("run: |\n  a\n\tb: c\n", "3:1", "b: c", "indent with spaces: YAML has no tabs"),
        ("name: a: b\n", "1:8", "name: a: b", "a value with ': ' in it needs quotes"),
        ('name: "abc\nrun: x\n', "1:7", 'name: "abc', "a quote is not closed"),
        ("setup: [a, b\nrun: x\n", "2:4", "run: x", "the bracket on line 1 is not closed"),
        ("name: x\nrun: *foo\n", "2:6", "run: *foo", "a value that starts with '*' needs quotes"),
        ("name: x\nrun: @foo\n", "2:6", "run: @foo", "a value that starts with '@', '`' or '%' needs quotes"),
        (
            "name: x\nfoo\nrun: y\n",
            "3:1",
            "run: y",
            "a ':' is missing after a key, here or on the line above",
        ),
        ('run: "\\w"\n', "1:7", 'run: "\\w"', "use single quotes"),
    ],
)
def test_a_syntax_error_shows_the_line_and_what_is_usually_meant(
    text: str, place: str, line: str, hint: str, tmp_path: Path
) -> None:
    first, shown, mark = refusal(text, tmp_path).message.splitlines()
    assert first.startswith(f"task.yaml:{place}: YAML: ")
    assert first.endswith(hint) or hint in first
    assert shown.strip() == line
    assert mark.index("^") == int(place.split(":")[1]) + 1


@pytest.mark.parametrize(
    ("name", "section"), [*((n, "") for n in SKYPILOT_TASK), *((n, "resources") for n in SKYPILOT_RESOURCES)]
)
def test_a_field_of_skypilots_is_refused_by_name_and_never_ignored(
    name: str, section: str, tmp_path: Path
) -> None:
    text = f"resources:\n  {name}: 1\n" if section else f"{name}: 1\n"
    message = refusal(text, tmp_path).message
    assert f"'{name}' is a SkyPilot field that whimbrel 0.1 cannot honour yet" in message
    assert message.startswith("task.yaml:2:3: " if section else "task.yaml:1:1: ")


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    for text in (
        "secrets: hunter2",
        "secrets: {A: [hunter2]}",
        "secrets: {A: hunter2}\nenvs: {A: 1}",
        "secrets: [hunter2]",
    ):
        error = refusal(text, tmp_path)
        assert "hunter2" not in error.message + str(error.to_wire())
    assert "hunter2" not in repr(Overrides(secrets={"A": "hunter2"}))
    assert "hunter2" not in repr(load_task("secrets: {A: hunter2}\n", env={}))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (Overrides(cpus="many"), "--cpus: 'many' is not a number of CPUs; write for example 4, 0.5 or 4+"),
        (
            Overrides(memory="x"),
            "--memory: 'x' is not an amount of memory; write for example 16, 16+, 16GB or 512MB",
        ),
        (Overrides(gpus=":3"), "--gpus: ':3' is not an accelerator; write for example H100 or H100:8"),
        (Overrides(infra="nimbus"), "--infra: 'nimbus' is not an infra"),
        (Overrides(num_nodes=0), "--num-nodes: must be between 1 and 1000, found 0"),
        (Overrides(workdir="nowhere"), "--workdir: "),
        (
            Overrides(envs={"X": None}),
            "--env: 'X' is not set in your environment; give its value: --env X=...",
        ),
        (
            Overrides(secrets={"T": None}),
            "--secret: 'T' is not set in your environment; give its value: --secret T=...",
        ),
        (Overrides(envs={"T": "1"}), "--env: 'T' is not one of the task's 'envs'; use --secret T=..."),
    ],
)
def test_a_bad_option_is_named_instead_of_the_file(
    overrides: Overrides, expected: str, tmp_path: Path
) -> None:
    assert expected in refusal("run: x\nsecrets: {T: t}\n", tmp_path, overrides).message


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTask, match=r"gone\.yaml: there is no such file"):
        load_task("gone.yaml", env={}, cwd=tmp_path)
    with pytest.raises(InvalidTask, match="Is a directory"):
        load_task(tmp_path, env={}, cwd=tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: x\nrun: caf\xe9\n")
    with pytest.raises(InvalidTask, match=r"latin\.yaml:2:9: is not UTF-8 text"):
        load_task("latin.yaml", env={}, cwd=tmp_path)
    (tmp_path / "control.yaml").write_bytes(b"name: x\nrun: a\x01b\n")
    with pytest.raises(InvalidTask, match=r"control\.yaml:2:7: YAML: the character U\+0001 is not allowed"):
        load_task("control.yaml", env={}, cwd=tmp_path)
    (tmp_path / "huge.yaml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(InvalidTask, match="larger than 4 MiB"):
        load_task("huge.yaml", env={}, cwd=tmp_path)


def test_a_file_that_would_explode_or_nest_without_end_is_refused_quickly(tmp_path: Path) -> None:
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
    assert "unknown field 'a0'" in refusal(laughs, tmp_path).message
    assert "nested" in refusal("a: " + "[" * 50 + "]" * 50, tmp_path).message
    assert "YAML" in refusal("a: " + "[" * 20000, tmp_path).message
