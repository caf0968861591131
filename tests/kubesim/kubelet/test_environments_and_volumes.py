"""What a container finds around it: variables, expansion, field references, files of volumes. Pure, but for writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.kubelet import volumes
from kubesim.kubelet.environment import ConfigError, Sources, build, host_path, host_variables
from kubesim.kubelet.expansion import expand
from kubesim.kubelet.payload import File
from kubesim.kubelet.references import referred
from kubesim.kubelet.volumes import VolumeError, files_of

POD: dict[str, Any] = {
    "metadata": {
        "name": "p",
        "namespace": "ns",
        "uid": "u",
        "labels": {"app": "web"},
        "annotations": {"a/b": "c"},
    },
    "spec": {"nodeName": "n1", "serviceAccountName": "sa", "containers": [{"name": "main"}]},
}
SOURCES = Sources(
    config_maps={"cfg": {"a": "1", "b-x": "2"}},
    secrets={"sec": {"k": b"v"}},
    pod_ip="127.64.0.1",
    host_ip="127.0.0.1",
    allocatable={"cpu": "4", "memory": "8Gi"},
)


def env(*entries: dict[str, Any], sources: Sources = SOURCES, **container: Any) -> dict[str, str]:
    return build(POD, {"name": "main", "env": list(entries), **container}, sources)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(NO)", "$(NO)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A $(A", "$A $(A"),
        ("end$", "end$"),
    ],
)
def test_references_are_expanded_as_kubernetes_does(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == result


@given(st.text())
def test_text_without_a_dollar_sign_is_not_changed_and_doubling_every_sign_protects_it(text: str) -> None:
    assert expand(text.replace("$", "$$"), {"A": "1"}) == text


def test_a_value_may_refer_to_earlier_ones() -> None:
    assert env({"name": "A", "value": "x"}, {"name": "B", "value": "$(A)$(C)"})["B"] == "x$(C)"


def test_values_come_from_config_maps_and_secrets() -> None:
    found = env(
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "a"}}},
        {"name": "K", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "k"}}},
        envFrom=[{"prefix": "P_", "configMapRef": {"name": "cfg"}}],
    )
    assert found == {"A": "1", "K": "v", "P_a": "1", "P_b-x": "2"}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "a"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "no", "key": "a"}}, 'secret "no" not found'),
        ({"configMapKeyRef": {"name": "cfg", "key": "z"}}, "couldn't find key z in ConfigMap ns/cfg"),
        ({"fieldRef": {"fieldPath": "spec.nothing"}}, "unsupported fieldPath: spec.nothing"),
    ],
)
def test_what_is_missing_is_named(reference: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        env({"name": "A", "valueFrom": reference})
    assert str(refusal.value) == message


def test_what_is_optional_may_be_missing() -> None:
    reference = {"configMapKeyRef": {"name": "no", "key": "a", "optional": True}}
    assert (
        env({"name": "A", "valueFrom": reference}, envFrom=[{"secretRef": {"name": "no", "optional": True}}])
        == {}
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['a/b']", "c"),
        ("spec.nodeName", "n1"),
        ("status.podIP", "127.64.0.1"),
        ("status.hostIP", "127.0.0.1"),
    ],
)
def test_fields_of_the_pod_can_be_had_as_variables(path: str, value: str) -> None:
    assert env({"name": "F", "valueFrom": {"fieldRef": {"fieldPath": path}}}) == {"F": value}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "8192"),
        ({"resource": "requests.memory"}, "0"),
    ],
)
def test_resources_are_counted_in_units_of_the_divisor_rounded_up(
    reference: dict[str, str], value: str
) -> None:
    resources = {"limits": {"cpu": "1500m"}}
    assert env({"name": "R", "valueFrom": {"resourceFieldRef": reference}}, resources=resources) == {
        "R": value
    }


def test_services_are_announced_by_variables() -> None:
    service = {
        "metadata": {"name": "my-db", "namespace": "ns"},
        "spec": {"clusterIP": "10.0.0.7", "ports": [{"name": "sql", "port": 5432}]},
    }
    headless = {
        "metadata": {"name": "x", "namespace": "ns"},
        "spec": {"clusterIP": "None", "ports": [{"port": 1}]},
    }
    found = build(POD, {"name": "main"}, Sources(services=[service, headless]))
    assert found["MY_DB_SERVICE_HOST"] == "10.0.0.7"
    assert found["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert found["MY_DB_PORT_5432_TCP"] == "tcp://10.0.0.7:5432"
    assert not any(name.startswith("X_") for name in found)
    unlinked = {**POD, "spec": {**POD["spec"], "enableServiceLinks": False}}
    assert build(unlinked, {"name": "main"}, Sources(services=[service])) == {}


def test_of_the_daemons_environment_only_network_and_index_settings_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / ".config" / "pip").mkdir(parents=True)
    (tmp_path / ".config" / "pip" / "pip.conf").write_text("[global]\n")
    taken = host_variables({"AWS_SECRET_ACCESS_KEY": "s", "PIP_INDEX_URL": "u", "https_proxy": "p"}, tmp_path)
    assert taken == {
        "PIP_INDEX_URL": "u",
        "https_proxy": "p",
        "LANG": "C.UTF-8",
        "PIP_CONFIG_FILE": str(tmp_path / ".config" / "pip" / "pip.conf"),
    }


def test_no_python_of_the_user_is_on_the_path(tmp_path: Path) -> None:
    for folder in ("venv/bin", "home/.pyenv/shims", "home/.local/bin"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    (tmp_path / "home" / ".pyenv" / "shims" / "pip3.12").touch()
    (tmp_path / "home" / ".local" / "bin" / "git").touch()
    shims, tools = tmp_path / "home" / ".pyenv" / "shims", tmp_path / "home" / ".local" / "bin"
    path = f"{tmp_path}/venv/bin:{shims}:{tools}:/opt/tool/bin:relative:/usr/bin"
    found = host_path({"PATH": path}, tmp_path / "home")
    assert found[:3] == [str(tools), "/opt/tool/bin", "/usr/bin"]
    assert found.count("/usr/bin") == 1


def test_config_maps_secrets_and_fields_become_files() -> None:
    assert files_of(POD, {"name": "v", "configMap": {"name": "cfg"}}, SOURCES, {}) == [
        File("a", b"1", 0o644),
        File("b-x", b"2", 0o644),
    ]
    chosen = {"secretName": "sec", "defaultMode": 0o400, "items": [{"key": "k", "path": "deep/file"}]}
    assert files_of(POD, {"name": "v", "secret": chosen}, SOURCES, {}) == [File("deep/file", b"v", 0o400)]
    downward = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    assert files_of(POD, {"name": "v", "downwardAPI": downward}, SOURCES, {}) == [
        File("labels", b'app="web"', 0o644)
    ]


def test_a_projected_volume_collects_its_sources() -> None:
    projection = {"path": "token", "expirationSeconds": 3607}
    volume = {
        "name": "v",
        "projected": {"sources": [{"serviceAccountToken": projection}, {"configMap": {"name": "cfg"}}]},
    }
    pod = {**POD, "spec": {**POD["spec"], "volumes": [volume]}}
    (key,) = referred(pod).tokens
    assert referred(pod).config_maps == {"cfg"}
    assert [file.path for file in files_of(pod, volume, SOURCES, {key: "t"})] == ["token", "a", "b-x"]


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        (
            {"secret": {"secretName": "sec", "items": [{"key": "z", "path": "z"}]}},
            "non-existent config key: z",
        ),
        ({"secret": {"secretName": "sec", "items": [{"key": "k", "path": "../z"}]}}, "leaves the volume"),
        ({"nfs": {"server": "s"}}, "cannot use volumes of the kind nfs"),
    ],
)
def test_a_volume_that_cannot_be_made_says_why(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        files_of(POD, {"name": "v", **volume}, SOURCES, {})


def test_mounts_are_links_below_the_containers_root_and_nowhere_else(tmp_path: Path) -> None:
    store, root = tmp_path / "volumes", tmp_path / "root"
    root.mkdir()
    volumes.write(store / "v", {"name": "v", "emptyDir": {}}, [])
    volumes.write(store / "c", {"name": "c", "configMap": {}}, [File("a", b"1", 0o640)])
    mounts = [
        {"name": "v", "mountPath": "/data"},
        {"name": "c", "mountPath": "/etc/app"},
        {"name": "v", "mountPath": "/sub", "subPath": "x/y"},
    ]
    volumes.link_mounts(root, {"volumeMounts": mounts}, store)
    (root / "data" / "file").write_text("kept in the volume")
    assert (store / "v" / "file").read_text() == "kept in the volume"
    assert (root / "etc" / "app" / "a").read_bytes() == b"1"
    assert (store / "c" / "a").stat().st_mode & 0o777 == 0o640
    assert (root / "sub").resolve() == (store / "v" / "x" / "y").resolve()


def test_a_host_path_of_the_wrong_type_is_refused(tmp_path: Path) -> None:
    volume = {"name": "h", "hostPath": {"path": str(tmp_path / "no"), "type": "Directory"}}
    with pytest.raises(VolumeError, match="is not a directory"):
        volumes.write(tmp_path / "v", volume, [])
