"""Pods as processes: a real API server in this process, a real kubelet, real containers."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubesim.apiserver.nodes import ExecOptions, NodeError
from kubesim.kubelet import proc
from kubewire.resources import CONFIG_MAPS, LEASES, NODES, SECRETS

from .conftest import eventually, running_state
from .nodecluster import NODE, NodeCluster, main_state, node_cluster

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cluster(root: Path) -> AsyncIterator[NodeCluster]:
    async with node_cluster(root) as made:
        yield made


async def test_the_node_is_this_machine_and_its_lease_is_renewed(cluster: NodeCluster) -> None:
    node = await cluster.client.get(NODES, NODE)
    assert node["status"]["capacity"]["cpu"] == str(len(os.sched_getaffinity(0)))
    assert node["metadata"]["labels"]["kubesim.dev/runtime"] == "process"
    lease = await cluster.until(lambda: _lease(cluster), "the lease is there")
    assert lease["spec"]["holderIdentity"] == NODE


async def test_a_pod_runs_and_says_so(cluster: NodeCluster) -> None:
    created = await cluster.create("p", "echo hello; sleep 1000")
    pod = await cluster.until_phase("p", "Running")
    assert pod["status"]["podIP"].startswith("127.")
    conditions = {one["type"]: one["status"] for one in pod["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    await eventually(lambda: _log(cluster, created) == "hello\n", "the pod has printed")
    assert await cluster.logs("p") == "hello\n"
    assert await cluster.run("p", "sh", "-c", "echo $HOSTNAME; exit 4") == (4, "p\n")


@pytest.mark.parametrize(
    ("script", "phase", "code"),
    [("exit 0", "Succeeded", 0), ("exit 3", "Failed", 3), ("kill -9 $$$$", "Failed", 137)],
)
async def test_a_pod_that_has_ended_says_how(
    cluster: NodeCluster, script: str, phase: str, code: int
) -> None:
    await cluster.create("p", script)
    pod = await cluster.until_phase("p", phase)
    assert main_state(pod)["terminated"]["exitCode"] == code


async def test_a_container_can_say_why_it_ended(cluster: NodeCluster) -> None:
    await cluster.create("p", "echo no more data > $KUBESIM_TERMINATION_LOG; exit 9")
    pod = await cluster.until_phase("p", "Failed")
    assert main_state(pod)["terminated"]["message"] == "no more data"


async def test_home_working_directory_and_python_are_the_pods_own(cluster: NodeCluster) -> None:
    pod = await cluster.create(
        "p", "pwd; echo $HOME; command -v python; command -v pip; python -c 'import sys; print(sys.prefix)'"
    )
    await cluster.until_phase("p", "Succeeded")
    lines = (await cluster.logs("p")).splitlines()
    assert len(lines) == 5
    assert all(Path(line).is_relative_to(cluster.folder(pod)) for line in lines)


async def test_nothing_of_the_daemons_environment_leaks_into_a_pod(
    cluster: NodeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for pods")
    await cluster.create("p", "env")
    await cluster.until_phase("p", "Succeeded")
    assert "AWS_SECRET_ACCESS_KEY" not in await cluster.logs("p")


async def test_variables_and_volumes_come_from_the_api(cluster: NodeCluster) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"key": "from config"},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "stringData": {"pass": "from secret"},
    }
    await cluster.client.create(CONFIG_MAPS, config, "default")
    await cluster.client.create(SECRETS, secret, "default")
    container = {
        "env": [
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "key"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "volumeMounts": [{"name": "s", "mountPath": "/etc/s"}, {"name": "e", "mountPath": "/work"}],
        "workingDir": "/work/inner",
    }
    volumes = [{"name": "s", "secret": {"secretName": "s"}}, {"name": "e", "emptyDir": {}}]
    script = (
        'echo $A; echo $IP; cat $KUBESIM_ROOT/etc/s/pass; echo; echo x > file; ls "$KUBESIM_ROOT/work/inner"'
    )
    await cluster.create("p", script, container=container, volumes=volumes)
    pod = await cluster.until_phase("p", "Succeeded")
    assert (await cluster.logs("p")).splitlines() == [
        "from config",
        pod["status"]["podIP"],
        "from secret",
        "file",
    ]


async def test_a_container_waits_for_a_missing_config_map_and_starts_when_it_appears(
    cluster: NodeCluster,
) -> None:
    container = {"envFrom": [{"configMapRef": {"name": "late"}}]}
    await cluster.create("p", "echo $WORD", container=container)
    await cluster.until_pod(
        "p",
        lambda pod: (
            pod["status"].get("containerStatuses")
            and main_state(pod).get("waiting")
            == {"reason": "CreateContainerConfigError", "message": 'configmap "late" not found'}
        ),
        "the reason is reported",
    )
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": {"WORD": "here"}}
    await cluster.client.create(CONFIG_MAPS, config, "default")
    await cluster.until_phase("p", "Succeeded")
    assert await cluster.logs("p") == "here\n"


async def test_a_command_that_does_not_exist_is_a_start_error(cluster: NodeCluster) -> None:
    await cluster.create("p", container={"command": ["nonesuch"]})
    terminated = main_state(await cluster.until_phase("p", "Failed"))["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("StartError", 128)
    assert 'exec: "nonesuch": executable file not found in $PATH' in terminated["message"]


async def test_a_container_without_a_command_says_that_images_are_not_pulled(cluster: NodeCluster) -> None:
    await cluster.create("p", container={"command": None})
    pod = await cluster.until_pod(
        "p", lambda pod: pod["status"].get("containerStatuses"), "a state is reported"
    )
    assert "do not pull images" in main_state(pod)["waiting"]["message"]


async def test_one_event_says_that_the_image_is_not_pulled(cluster: NodeCluster) -> None:
    await cluster.create("p", "exit 1", restartPolicy="Always")
    await cluster.until_pod("p", _restarted, "a restart")
    await cluster.until(lambda: cluster.events("ImageNotPulled"), "the event is there")
    (message,) = await cluster.events("ImageNotPulled")
    assert "any:1" in message


async def test_a_container_is_restarted_in_a_fresh_home_and_its_last_log_is_kept(
    cluster: NodeCluster,
) -> None:
    script = (
        'test -e seen && echo "not fresh"; touch seen; echo run; test -e $KUBESIM_ROOT/keep/one && sleep 1000; '
        "touch $KUBESIM_ROOT/keep/one; exit 5"
    )
    container = {"volumeMounts": [{"name": "keep", "mountPath": "/keep"}]}
    volumes = [{"name": "keep", "emptyDir": {}}]
    await cluster.create("p", script, container=container, volumes=volumes, restartPolicy="Always")
    pod = await cluster.until_pod(
        "p", lambda pod: _restarted(pod) and "running" in main_state(pod), "it runs again"
    )
    (status,) = pod["status"]["containerStatuses"]
    assert status["lastState"]["terminated"]["exitCode"] == 5
    assert await cluster.logs("p", previous=True) == "run\n"
    await cluster.until(lambda: _has_printed(cluster, "run\n"), "the second run has printed")


async def test_a_crashing_container_backs_off_and_says_so(cluster: NodeCluster) -> None:
    await cluster.create("p", "exit 1", restartPolicy="Always")
    pod = await cluster.until_pod(
        "p", lambda pod: _restarted(pod) and "waiting" in main_state(pod), "CrashLoopBackOff"
    )
    assert main_state(pod)["waiting"]["reason"] == "CrashLoopBackOff"
    assert main_state(pod)["waiting"]["message"].startswith(
        "back-off 10s restarting failed container=main pod=p_default("
    )


async def test_init_containers_run_before_the_container(cluster: NodeCluster) -> None:
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    init = {
        "name": "init",
        "image": "i",
        "command": ["sh", "-c", "echo made > $KUBESIM_ROOT/v/file"],
        **mount,
    }
    await cluster.create(
        "p",
        "cat $KUBESIM_ROOT/v/file",
        container=mount,
        initContainers=[init],
        volumes=[{"name": "v", "emptyDir": {}}],
    )
    pod = await cluster.until_phase("p", "Succeeded")
    assert await cluster.logs("p") == "made\n"
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


async def test_deletion_gives_the_grace_ends_everything_and_leaves_nothing(cluster: NodeCluster) -> None:
    script = "setsid sleep 1000 & echo $!; trap 'exit 0' TERM; while :; do sleep 0.05; done"
    pod = await cluster.create("p", script)
    await cluster.until(lambda: _has_line(cluster), "the pod has printed")
    stray = proc.identify(int(await cluster.logs("p")))
    assert stray is not None
    await cluster.delete("p")
    await cluster.until_gone("p")
    assert not stray.is_alive()
    await eventually(lambda: not cluster.folder(pod).exists(), "its folder is gone")


async def test_deletion_without_grace_kills_at_once(cluster: NodeCluster) -> None:
    pod = await cluster.create(
        "p", "trap '' TERM; while :; do sleep 0.05; done", terminationGracePeriodSeconds=1000
    )
    await cluster.until_phase("p", "Running")
    main = running_state(cluster.folder(pod) / "containers" / "main" / "0").main
    assert main is not None
    await cluster.delete("p", grace=0)
    await eventually(lambda: not cluster.folder(pod).exists(), "its folder is gone")
    assert not main.is_alive()


async def test_a_new_pod_of_an_old_name_is_another_pod(cluster: NodeCluster) -> None:
    for word in ("one", "two"):
        await cluster.create("p", f"echo {word}; sleep 1000")
        await cluster.until_phase("p", "Running")
        await cluster.until(lambda word=word: _has_printed(cluster, f"{word}\n"), "it has printed")
        await cluster.delete("p", grace=0)
        await cluster.until_gone("p")


async def test_a_pod_over_its_deadline_fails(cluster: NodeCluster) -> None:
    await cluster.create("p", activeDeadlineSeconds=1)
    pod = await cluster.until_phase("p", "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"


async def test_killing_a_shim_fails_the_pod_with_a_clear_reason_and_leaves_no_process(
    cluster: NodeCluster,
) -> None:
    pod = await cluster.create("p", "setsid sleep 1000 & sleep 1000")
    await cluster.until_phase("p", "Running")
    running_state(cluster.folder(pod) / "containers" / "main" / "0").shim.send(signal.SIGKILL)
    terminated = main_state(await cluster.until_phase("p", "Failed"))["terminated"]
    assert terminated["reason"] == "ContainerStatusUnknown"
    assert "was killed" in terminated["message"]
    assert proc.marked(str(cluster.folder(pod))) == []


async def test_two_pods_listen_on_one_port_and_both_can_be_dialled(cluster: NodeCluster) -> None:
    script = (
        "import os, socket; s = socket.create_server((os.environ['IP'], 45117)); c = s.accept()[0]; "
        "c.sendall(os.environ['HOSTNAME'].encode()); c.close()"
    )
    container = {
        "command": ["python", "-c", script],
        "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
    }
    for name in ("a", "b"):
        await cluster.create(name, container=container)
    for name in ("a", "b"):
        await cluster.until_phase(name, "Running")
        assert (
            await cluster.until(lambda name=name: _dial(cluster, name, 45117), "the pod listens")
            == name.encode()
        )
    with pytest.raises(OSError):
        await cluster.kubelet.dial("default", "a", 45118)


async def test_refusals_are_worded_as_a_kubelet_words_them(cluster: NodeCluster) -> None:
    await cluster.create("done", "exit 0")
    await cluster.until_phase("done", "Succeeded")
    options = ExecOptions(command=("true",))
    with pytest.raises(NodeError, match=r'container not found \("main"\)'):
        await cluster.kubelet.exec("default", "done", "main", options)
    with pytest.raises(NodeError, match='pods "nobody" not found'):
        await cluster.kubelet.exec("default", "nobody", "main", options)
    with pytest.raises(NodeError, match='previous terminated container "main" in pod "done" not found'):
        await cluster.logs("done", previous=True)
    await cluster.create("runs")
    await cluster.until_phase("runs", "Running")
    with pytest.raises(NodeError, match=r'exec: "nonesuch": executable file not found in \$PATH'):
        await cluster.kubelet.exec("default", "runs", "main", ExecOptions(command=("nonesuch",)))


async def test_a_job_started_by_exec_with_setsid_lives_until_the_pod_is_deleted(cluster: NodeCluster) -> None:
    await cluster.create("p")
    await cluster.until_phase("p", "Running")
    code, out = await cluster.run(
        "p", "sh", "-c", "setsid sh -c 'sleep 1000' </dev/null >/dev/null 2>&1 & echo $!"
    )
    job = proc.identify(int(out))
    assert code == 0
    assert job is not None
    assert await cluster.run("p", "true") == (0, "")
    assert job.is_alive()
    await cluster.delete("p")
    await cluster.until_gone("p")
    assert not job.is_alive()


async def test_a_restarted_kubelet_adopts_what_runs_and_learns_what_has_ended(cluster: NodeCluster) -> None:
    script = "echo before; until test -e $KUBESIM_ROOT/go; do sleep 0.02; done; echo after; sleep 1000"
    pod = await cluster.create("runs", script)
    go = cluster.folder(pod) / "containers" / "main" / "0" / "root" / "go"
    await cluster.create("ends", "sleep 0.2; echo last; exit 6")
    running = await cluster.until_phase("runs", "Running")
    await cluster.until_phase("ends", "Running")
    await cluster.stop_kubelet()
    await eventually(
        lambda: list(cluster.root.glob("pods/*/containers/main/0/exit.json")), "the one has ended"
    )
    go.touch()
    await cluster.start_kubelet()
    ended = await cluster.until_phase("ends", "Failed")
    assert main_state(ended)["terminated"]["exitCode"] == 6
    assert await cluster.logs("ends") == "last\n"
    await cluster.until(lambda: _has_printed(cluster, "before\nafter\n", "runs"), "it goes on")
    assert (await cluster.get("runs"))["status"]["containerStatuses"] == running["status"][
        "containerStatuses"
    ]
    assert await cluster.run("runs", "true") == (0, "")


async def test_pods_that_were_deleted_while_the_kubelet_was_away_are_ended_on_its_return(
    cluster: NodeCluster,
) -> None:
    gone = await cluster.create("gone")
    asked = await cluster.create("asked")
    for name in ("gone", "asked"):
        await cluster.until_phase(name, "Running")
    await cluster.stop_kubelet()
    await cluster.delete("gone", grace=0)
    await cluster.delete("asked")
    assert proc.marked(str(cluster.folder(gone)))
    await cluster.start_kubelet()
    await cluster.until_gone("asked")
    for pod in (gone, asked):
        await eventually(lambda pod=pod: not cluster.folder(pod).exists(), "its folder is gone")
        assert proc.marked(str(cluster.folder(pod))) == []


async def test_a_container_whose_files_are_gone_is_not_run_a_second_time(
    cluster: NodeCluster, root: Path
) -> None:
    pod = await cluster.create("p", f"echo ran >> {root}/count; sleep 1000")
    await cluster.until_phase("p", "Running")
    await eventually((root / "count").exists, "it has run")
    await cluster.stop_kubelet()
    cluster.folder(pod).rename(root / "elsewhere")
    await eventually(lambda: not proc.marked(str(cluster.folder(pod))), "its shim has given up")
    await cluster.start_kubelet()
    terminated = main_state(await cluster.until_phase("p", "Failed"))["terminated"]
    assert terminated["reason"] == "ContainerStatusUnknown"
    assert (root / "count").read_text() == "ran\n"


async def _lease(cluster: NodeCluster) -> dict[str, object] | None:
    leases = await cluster.client.list(LEASES, "kube-node-lease")
    return leases.items[0] if leases.items else None


async def _has_printed(cluster: NodeCluster, text: str, name: str = "p") -> bool:
    return await cluster.logs(name) == text


async def _has_line(cluster: NodeCluster) -> bool:
    try:
        return "\n" in await cluster.logs("p")
    except NodeError:
        return False  # not started yet


async def _dial(cluster: NodeCluster, name: str, port: int) -> bytes:
    try:
        reader, writer = await cluster.kubelet.dial("default", name, port)
    except OSError:
        return b""
    data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data


def _restarted(pod: dict[str, object]) -> bool:
    statuses = pod["status"].get("containerStatuses") or [{}]  # type: ignore[attr-defined]
    return int(statuses[0].get("restartCount", 0)) > 0


def _log(cluster: NodeCluster, pod: dict[str, object]) -> str:
    path = cluster.folder(pod) / "containers" / "main" / "0" / "log"
    return (
        "".join(line.split(" ", 3)[3] + "\n" for line in path.read_text().splitlines())
        if path.exists()
        else ""
    )
