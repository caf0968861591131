"""`config.yaml`: what stands nearest wins, and what cannot be followed is refused with its place."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from kubewire.deadlines import Deadlines
from whimbrel.model.config import DEADLINES, Config, KubernetesConfig
from whimbrel.model.configreader import config_from_wire, load_config, read_config
from whimbrel.model.errors import InvalidConfig
from whimbrel.model.exitcodes import ExitCode

WHOLE = """
kubernetes:
  allowed_contexts: [east, west]
  namespace: research
  provision_timeout: 60
  ports: nodeport
  remote_identity: runner
  kueue: {local_queue_name: gpus}
  custom_metadata:
    labels: {team: vision, cost-center: 12}
    annotations: {example.com/owner: "Ada & Co"}
  pod_config:
    spec:
      imagePullSecrets: [{name: registry}]
  deadlines: {read: 7}
  context_configs:
    west:
      namespace: batch
      autoscaler: karpenter
      provision_timeout: -1
      custom_metadata: {labels: {team: language}}
      deadlines: {probe: 4}
      pod_config:
        spec:
          runtimeClassName: nvidia
          imagePullSecrets: [{name: mirror}]
"""


def refused(text: str) -> list[str]:
    with pytest.raises(InvalidConfig) as error:
        read_config(text, "config.yaml")
    assert error.value.exit_code is ExitCode.INVALID
    return error.value.message.splitlines()


def test_what_is_set_for_a_context_wins_over_what_is_set_for_all() -> None:
    config = read_config(WHOLE, "config.yaml")
    east, west = config.of("east"), config.of("west")
    assert (east.namespace, west.namespace) == ("research", "batch")
    assert (east.provision_timeout, west.provision_timeout) == (60, -1)
    assert (east.autoscaler, west.autoscaler) == (None, "karpenter")
    assert east.labels == {"team": "vision", "cost-center": "12"}
    assert west.labels == {"team": "language", "cost-center": "12"}
    assert west.queue == "gpus"
    assert west.service_account == "runner"
    assert west.deadlines == {"read": 7, "probe": 4}
    assert west.pod_config["spec"] == {
        "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}],
    }


def test_allowed_contexts_are_the_only_ones_that_may_be_named() -> None:
    config = read_config(WHOLE, "config.yaml")
    assert [config.allows(name) for name in ("east", "west", "north")] == [True, True, False]
    assert Config().allows("north")
    assert read_config("kubernetes: {allowed_contexts: all}", "c").all_contexts


def test_a_service_account_may_be_named_by_context() -> None:
    config = read_config("kubernetes:\n  remote_identity: {east: a, west: NO_UPLOAD}\n", "c")
    assert [config.of(name).service_account for name in ("east", "west", "north")] == ["a", "", None]


def test_a_configuration_crosses_the_wire_unchanged() -> None:
    config = read_config(WHOLE, "")
    assert config_from_wire(config.to_wire()) == config
    assert config_from_wire(Config().to_wire()) == Config()


def test_no_file_and_an_empty_one_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    assert load_config(path) == Config(source=str(path))
    path.write_text("# nothing yet\n")
    assert load_config(path) == Config(source=str(path))


def test_every_mistake_is_told_with_its_place_and_the_nearest_name() -> None:
    said = refused(
        "kubernetes:\n  alowed_contexts: [a]\n  ports: loadbalncer\n  provision_timeout: soon\n"
        "  context_configs:\n    west:\n      deadlines: {raed: 3, read: 0}\n      namespace: Big\n"
    )
    assert said == [
        "6 problems:",
        "config.yaml:2:3: unknown field 'alowed_contexts'; did you mean 'allowed_contexts'?",
        "config.yaml:3:10: 'kubernetes.ports' cannot be 'loadbalncer'; did you mean 'loadbalancer'?",
        "config.yaml:4:22: 'kubernetes.provision_timeout' must be a number of seconds, or -1 for as long as it takes, "
        "found the text 'soon'",
        "config.yaml:7:19: unknown field 'raed'; did you mean 'read'?",
        "config.yaml:7:34: 'kubernetes.context_configs.west.deadlines.read' must be a number of seconds, more than 0, "
        "found 0",
        "config.yaml:8:18: 'kubernetes.context_configs.west.namespace' cannot be 'Big': a name has up to 63 lower-case "
        "letters, digits and '-', inside it",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kubernetes: {dws: {enabled: true}}", "'dws' is a SkyPilot field"),
        ("aws: {}", "'aws' is a SkyPilot field"),
        ("kubernetes: {networking: portforward}", "reached over the API server"),
        ("kubernetes: {allowed_contexts: west}", "must be a list of contexts, or 'all'; write [west]"),
        ("kubernetes: {context_configs: [a]}", "must be a mapping of contexts"),
        ("kubernetes: {custom_metadata: {labels: {whimbrel.dev/user: x}}}", "is whimbrel's own"),
        ("kubernetes: {custom_metadata: {labels: {a: 'b c'}}}", "cannot be 'b c'"),
        ("kubernetes: {remote_identity: SERVICE_ACCOUNT}", "cannot be SERVICE_ACCOUNT"),
        ("kubernetes: {pod_config: {spec: {restartPolicy: Always}}}", "whimbrel's own"),
        ("kubernetes: {pod_config: {spec: {containers: [{command: [sh]}]}}}", "containers[0].command"),
        ("kubernetes: {pod_config: {spec: {containers: [{name: node}, {image: x}]}}}", "has no name"),
        (
            "kubernetes: {pod_config: {spec: {volumes: [{emptyDir: {}}]}}}",
            "has no 'name' in 'spec.volumes[0]'",
        ),
        ("kubernetes: {pod_config: {kubernetes: {}}}", "it is a piece of a pod"),
        ("kubernetes: [", "YAML"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(text: str, words: str) -> None:
    assert any(words in line for line in refused(text)), refused(text)


def test_the_deadlines_that_can_be_set_are_those_that_there_are() -> None:
    assert {entry.name for entry in fields(Deadlines)} == set(DEADLINES)
    Deadlines().override(KubernetesConfig(deadlines=dict.fromkeys(DEADLINES, 3.0)).deadlines)
