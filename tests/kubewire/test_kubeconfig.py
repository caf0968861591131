"""Reading kubeconfigs: merging, paths, and a message of its own for each thing that can be wrong."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewire.connection import ExecPlugin
from kubewire.errors import ConfigError, ContextIncomplete, ContextNotFound, KubeconfigInvalid
from kubewire.kubeconfig import default_paths, in_cluster, load

Write = Callable[..., Path]


def config(
    name: str = "c", *, cluster: Any = None, user: Any = None, current: str = "", **context: Any
) -> dict[str, Any]:
    """A kubeconfig with one context, cluster and user, all of one name."""
    server = {"server": f"https://{name}:6443"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": name, "cluster": {**server, **(cluster or {})}}],
        "users": [{"name": name, "user": {"token": f"token-of-{name}"} if user is None else user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **context}}],
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file and says where."""

    def to_file(content: Any, name: str = "config") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return to_file


def connect(path: Path, context: str | None = "c", **environ: str) -> Any:
    """The connection of a context in one file."""
    return load([path], environ=environ).connection(context)


def test_one_file_one_context(write: Write) -> None:
    path = write(config("c", current="c", namespace="team"))
    found = load([path], environ={})
    assert found.contexts() == ["c"]
    assert found.current == "c"
    connection = found.connection()
    assert (connection.server, connection.namespace, connection.token) == (
        "https://c:6443",
        "team",
        "token-of-c",
    )
    assert (connection.context, connection.source) == ("c", str(path))
    assert "token-of-c" not in repr(connection)
    assert "token-of-c" not in repr(found)


def test_the_first_file_wins_whole_entries_and_the_current_context(write: Write) -> None:
    first = config("shared", cluster={"server": "https://first:1"}, current="")
    second = config("shared", cluster={"server": "https://second:2", "tls-server-name": "x"}, current="other")
    second["contexts"].append({"name": "other", "context": {"cluster": "shared", "user": "shared"}})
    third = config("third", current="third")
    paths = [write(first, "1"), write(second, "2"), write(third, "3")]
    found = load(paths, environ={})
    assert found.contexts() == ["shared", "other", "third"]
    assert found.current == "other"
    connection = found.connection("shared")
    assert connection.server == "https://first:1"
    assert connection.tls_server_name is None  # nothing is mixed in from the entry that lost
    assert found.connection("other").server == "https://first:1"


def test_a_context_may_combine_what_stands_in_different_files(write: Write) -> None:
    one = {"contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}]}
    two = {"clusters": [{"name": "k", "cluster": {"server": "https://k:1", "certificate-authority": "ca"}}]}
    three = {"users": [{"name": "u", "user": {"client-certificate": "sub/crt", "client-key": "/abs/key"}}]}
    paths = [write(one, "a/1"), write(two, "b/2"), write(three, "c/3")]
    connection = load(paths, environ={}).connection("c")
    root = paths[0].parent.parent
    assert connection.ca_file == root / "b" / "ca"
    assert connection.certificate_file == root / "c" / "sub" / "crt"
    assert connection.key_file == Path("/abs/key")


def test_missing_files_are_left_out_and_named_when_nothing_is_left(write: Write, tmp_path: Path) -> None:
    there = write(config("c"))
    assert load([tmp_path / "no", there], environ={}).contexts() == ["c"]
    nothing = load([tmp_path / "no"], environ={})
    assert nothing.contexts() == []
    with pytest.raises(ContextNotFound, match=r"/no does not exist"):
        nothing.connection("c")


def test_the_environment_says_where_to_look() -> None:
    assert default_paths({"HOME": "/h"}) == [Path("/h/.kube/config")]
    assert default_paths({"HOME": "/h", "KUBECONFIG": ""}) == [Path("/h/.kube/config")]
    assert default_paths({"HOME": "/h", "KUBECONFIG": ":a:/b::a"}) == [Path("a"), Path("/b")]


def test_load_follows_the_environment(write: Write) -> None:
    assert load(environ={"KUBECONFIG": str(write(config("c")))}).contexts() == ["c"]


def test_an_unknown_context_names_the_known_ones(write: Write) -> None:
    path = write(config("c"))
    with pytest.raises(ContextNotFound, match=r"no context 'x' \(contexts there: c\)") as caught:
        connect(path, "x")
    assert caught.value.known == ["c"]
    with pytest.raises(ContextNotFound, match="no current-context"):
        connect(path, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"contexts": [{"name": "c", "context": {"user": "c"}}]}, "names no cluster"),
        ({"contexts": [{"name": "c", "context": {"cluster": "c"}}]}, "names no user"),
        ({"contexts": [{"name": "c", "context": {"cluster": "k", "user": "c"}}]}, "cluster 'k', which"),
        ({"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}, "user 'u', which"),
        ({"clusters": [{"name": "c", "cluster": {}}]}, "without a server"),
        ({"contexts": [{"name": "c"}]}, "names no cluster"),
    ],
)
def test_an_incomplete_context_says_what_it_lacks(write: Write, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ContextIncomplete, match=words):
        connect(write({**config("c"), **change}))


def test_behind_kubectl_proxy_no_user_is_needed(write: Write) -> None:
    document = config("c", cluster={"server": "http://127.0.0.1:8001"})
    document["contexts"][0]["context"].pop("user")
    assert connect(write(document)).server == "http://127.0.0.1:8001"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: [1, 2", r":\d:\d: "),
        ("a:\n\tb: 1", ":2:1: "),
        ("- a", "not a mapping"),
        ("just words", "not a mapping"),
        ("clusters: {}", "clusters must be a list"),
        ("clusters: [{cluster: {}}]", "an entry of clusters has no name"),
        ("clusters: [x]", "an entry of clusters has no name"),
        ("users: [{name: a, user: x}]", "user 'a' must be a mapping"),
        ("contexts: [{name: a}, {name: b}, {name: a}]", "contexts has the name 'a' twice"),
        ("current-context: [x]", "current-context must be a text"),
        ("\x00", "not YAML"),
    ],
)
def test_a_broken_file_says_where(write: Write, content: str, words: str) -> None:
    path = write(content)
    with pytest.raises(KubeconfigInvalid, match=words) as caught:
        load([path])
    assert str(path) in caught.value.message


def test_a_directory_or_foreign_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigInvalid, match="cannot be read"):
        load([tmp_path])


def test_an_empty_file_is_an_empty_config(write: Write) -> None:
    assert load([write("")]).contexts() == []


@pytest.mark.parametrize(
    ("cluster", "user", "words"),
    [
        ({"certificate-authority-data": "%%%"}, None, "certificate-authority-data is not base64"),
        ({"insecure-skip-tls-verify": "yes"}, None, "must be true or false"),
        ({"insecure-skip-tls-verify": True, "certificate-authority": "x"}, None, "contradiction"),
        ({"server": "c:6443"}, None, "must look like https://HOST:PORT"),
        ({"server": "https://c:port"}, None, "malformed"),
        ({"server": "https://me@c:1"}, None, "must not hold a user"),
        ({}, {"client-certificate": "x"}, "must come together"),
        ({}, {"client-key-data": "eA=="}, "must come together"),
        ({}, {"auth-provider": {"name": "gcp"}}, "removed from Kubernetes"),
        ({}, {"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, "exec has no command"),
        ({}, {"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}}, "v1alpha1"),
        ({}, {"exec": "x"}, "exec must be a mapping"),
        ({}, {"token": {"a": "b"}}, "token must be a text"),
    ],
)
def test_a_broken_entry_says_what_is_wrong(write: Write, cluster: Any, user: Any, words: str) -> None:
    with pytest.raises(KubeconfigInvalid, match=words):
        connect(write(config("c", cluster=cluster, user=user)))


def test_a_broken_context_does_not_hurt_the_others(write: Write) -> None:
    broken = config("broken", cluster={"certificate-authority-data": "%%%"})
    found = load([write(broken, "1"), write(config("good"), "2")], environ={})
    assert found.connection("good").server == "https://good:6443"


def test_data_is_decoded_and_wins_over_files(write: Write) -> None:
    encoded = base64.b64encode(b"PEM").decode()
    cluster = {"certificate-authority-data": encoded, "certificate-authority": "ca"}
    user = {
        "client-certificate-data": encoded,
        "client-certificate": "c",
        "client-key-data": f"{encoded}\n",
        "client-key": "k",
    }
    connection = connect(write(config("c", cluster=cluster, user=user)))
    assert (connection.ca_data, connection.certificate_data, connection.key_data) == (b"PEM", b"PEM", b"PEM")
    assert (connection.ca_file, connection.certificate_file, connection.key_file) == (None, None, None)


def test_all_the_rest_of_a_cluster_and_user(write: Write) -> None:
    cluster = {
        "tls-server-name": "api",
        "insecure-skip-tls-verify": True,
        "disable-compression": True,
        "proxy-url": "socks5://p:1",
    }
    user = {
        "tokenFile": "token",
        "username": "u",
        "password": 123,
        "as": "root",
        "as-uid": "7",
        "as-groups": ["a", "b"],
        "as-user-extra": {"Scopes": ["x", "y"]},
    }
    path = write(config("c", cluster=cluster, user=user))
    connection = connect(path)
    assert connection.tls_server_name == "api"
    assert connection.insecure
    assert connection.disable_compression
    assert connection.proxy_url == "socks5://p:1"
    assert connection.token_file == path.parent / "token"
    assert (connection.username, connection.password) == ("u", "123")
    assert connection.impersonate == (
        ("impersonate-user", "root"),
        ("impersonate-uid", "7"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
        ("impersonate-extra-scopes", "x"),
        ("impersonate-extra-scopes", "y"),
    )


@pytest.mark.parametrize(
    ("command", "expected"),
    [("plugin", "plugin"), ("./bin/plugin", "{}/bin/plugin"), ("/abs/plugin", "/abs/plugin")],
)
def test_a_plugin_is_found_on_the_path_or_beside_its_file(write: Write, command: str, expected: str) -> None:
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": command,
        "args": ["get-token", 1],
        "env": [{"name": "A", "value": "b"}],
        "interactiveMode": "Never",
        "provideClusterInfo": True,
        "installHint": "  Install it.\n",
    }
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}
    path = write(config("c", cluster={"extensions": [extension]}, user={"exec": plugin}))
    connection = connect(path)
    assert connection.exec_plugin == ExecPlugin(
        command=expected.format(path.parent),
        args=("get-token", "1"),
        env=(("A", "b"),),
        api_version="client.authentication.k8s.io/v1beta1",
        provide_cluster_info=True,
        interactive_mode="Never",
        install_hint="Install it.",
    )
    assert connection.exec_config == {"audience": "a"}
    assert "get-token" not in repr(connection)


def test_json_is_yaml(write: Write) -> None:
    assert connect(write(json.dumps(config("c")))).server == "https://c:6443"


def test_the_environment_may_name_a_proxy_that_the_cluster_does_not(write: Write) -> None:
    path = write(config("c"))
    assert connect(path, HTTPS_PROXY="http://proxy:3128").proxy_url == "http://proxy:3128"
    assert connect(path, HTTPS_PROXY="http://proxy:3128", NO_PROXY="c").proxy_url is None
    own = write(config("c", cluster={"proxy-url": "http://own:1"}))
    assert connect(own, HTTPS_PROXY="http://proxy:3128").proxy_url == "http://own:1"
    with pytest.raises(ConfigError, match="scheme 'ftp'"):
        connect(write(config("c", cluster={"proxy-url": "ftp://own:1"})))


def test_in_a_pod_the_service_account_is_used(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(ConfigError, match="does not run in a Kubernetes pod"):
        in_cluster(environ, tmp_path)
    (tmp_path / "token").write_text("t")
    (tmp_path / "namespace").write_text("team\n")
    connection = in_cluster(environ, tmp_path)
    assert connection.server == "https://[fd00::1]:443"
    assert connection.namespace == "team"
    assert connection.token_file == tmp_path / "token"
    assert connection.ca_file == tmp_path / "ca.crt"
    with pytest.raises(ConfigError):
        in_cluster({}, tmp_path)
