"""From `config.yaml` to a checked `Config`; every mistake is told at once, with its place, as for a task.

    ~/.whimbrel/config.yaml:3:3: unknown field 'alowed_contexts'; did you mean 'allowed_contexts'?

The names are those of SkyPilot's file. What it has and we have not is refused by name: a setting that is read and not
followed is worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from whimbrel.model import podconfig
from whimbrel.model.config import AUTOSCALERS, DEADLINES, FOR_EVER, PORT_MODES, Config, KubernetesConfig
from whimbrel.model.errors import InvalidConfig
from whimbrel.model.labels import annotation_problem, dns_problem, label_problem
from whimbrel.model.problems import Problem, tell
from whimbrel.model.walking import Walker, describe
from whimbrel.model.yamltree import Branch, Fields, Leaf, Tree, Unreadable, of_json, parse

LARGEST_FILE = 1024 * 1024

TOP = ("kubernetes",)
CONTEXT = (
    "namespace", "pod_config", "custom_metadata", "remote_identity", "provision_timeout", "autoscaler", "kueue",
    "ports", "deadlines",
)  # fmt: skip
TASK = (
    "namespace",
    "pod_config",
    "custom_metadata",
    "remote_identity",
    "provision_timeout",
    "kueue",
    "ports",
)
EVERY = ("allowed_contexts", "context_configs", *CONTEXT)

_NOT_HERE = "leave it out"
SKYPILOT_TOP: Mapping[str, str] = dict.fromkeys(
    (
        "api_server", "allowed_clouds", "admin_policy", "db", "active_workspace", "workspaces", "rbac", "jobs",
        "serve", "aws", "gcp", "azure", "oci", "nebius", "vast", "slurm", "ssh", "lambda", "runpod", "logs", "metrics",
        "dashboard", "provision", "data", "docker", "nvidia_gpus", "daemons", "plugins", "auth", "hooks",
    ),
    _NOT_HERE,
)  # fmt: skip
SKYPILOT_KUBERNETES: Mapping[str, str] = {
    "networking": "leave it out: nodes are reached over the API server",
    "dws": "",
    "quota": "name the Kueue queue with `kueue.local_queue_name`",
    "high_availability": "",
    "post_provision_runcmd": "put it into the task's `setup`",
    "apt_mirrors": "leave it out: nothing is installed in the image",
    "set_pod_resource_limits": "set `resources.limits` of the container with `pod_config`",
    "pricing": "",
    "auto_mounts": "name the volume in the task's `volumes`",
    "enable_docker": "",
    "rdma": "ask for its resource and `hostNetwork` with `pod_config`",
    "allowed_nodes": "use `nodeSelector` or `affinity` in `pod_config`",
    "max_inline_command_length": _NOT_HERE,
    "fuse": "",
}
_NOT_OF_A_TASK: Mapping[str, str] = dict.fromkeys(
    ("allowed_contexts", "context_configs", "autoscaler", "deadlines"),
    "it belongs into the configuration file, not into a task",
)
_SKYPILOT_IDENTITIES = ("SERVICE_ACCOUNT", "LOCAL_CREDENTIALS")


def load_config(path: Path) -> Config:
    """The configuration in a file; a file that is not there says nothing.

    Raises:
        InvalidConfig: with each problem, its file, line and column.
    """
    shown = str(path)
    try:
        data = path.read_bytes() if path.stat().st_size <= LARGEST_FILE else None
    except FileNotFoundError:
        return Config(source=shown)
    except OSError as error:
        raise tell(
            InvalidConfig, [Problem(file=shown, message=f"cannot be read: {error.strerror}")]
        ) from None
    if data is None:
        raise tell(
            InvalidConfig, [Problem(file=shown, message="is larger than 1 MiB, which no configuration is")]
        )
    try:
        return read_config(data.decode("utf-8-sig"), shown)
    except UnicodeDecodeError:
        raise tell(
            InvalidConfig, [Problem(file=shown, message="is not UTF-8 text", hint="save it as UTF-8")]
        ) from None


def read_config(text: str, file: str) -> Config:
    """The configuration in a text."""
    reader = ConfigReader(file)
    try:
        trees, problems = parse(text, file)
    except Unreadable as error:
        raise tell(InvalidConfig, [error.problem]) from None
    reader.problems += problems
    if len(trees) > 1:
        reader.add(trees[1].spot, "", "a configuration is one document", "remove the `---`")
    config = reader.config(trees[0]) if trees else Config()
    if reader.problems:
        raise tell(InvalidConfig, reader.problems)
    return replace(config, source=file)


def config_from_wire(wire: object) -> Config:
    """What `Config.to_wire` wrote, through the same checks."""
    reader = ConfigReader("configuration")
    try:
        config = reader.config(of_json(wire))
    except Unreadable as error:
        raise tell(InvalidConfig, [error.problem]) from None
    if reader.problems:
        raise tell(InvalidConfig, reader.problems)
    return config


class ConfigReader(Walker):
    """Walks the tree of a configuration, or of the `config` of a task."""

    def config(self, root: Tree) -> Config:
        """The whole file."""
        top = self.known(root, "", TOP, SKYPILOT_TOP, {"under 'kubernetes'": EVERY}, "a configuration")
        if "kubernetes" not in top:
            return Config()
        where = "kubernetes"
        found = self.known(
            top["kubernetes"], where, EVERY, SKYPILOT_KUBERNETES, {"at the top of the file": TOP}, ""
        )
        identities = self._identities(found)
        every = self._context(found, where)
        contexts = self._contexts(found.get("context_configs"), f"{where}.context_configs")
        for name, account in identities.items():
            own = contexts.get(name, KubernetesConfig())
            if own.service_account is None:
                contexts[name] = replace(own, service_account=account)
        allowed, everyone = self._allowed(found.get("allowed_contexts"), f"{where}.allowed_contexts")
        return Config(allowed_contexts=allowed, all_contexts=everyone, every=every, contexts=contexts)

    def of_task(self, tree: Tree, where: str) -> KubernetesConfig:
        """The `config` of a task: `kubernetes` alone, and of that what is not the context's business."""
        top = self.known(tree, where, TOP, SKYPILOT_TOP, {}, "")
        if "kubernetes" not in top:
            return KubernetesConfig()
        inside = f"{where}.kubernetes"
        mapping = top["kubernetes"]
        if isinstance(mapping, Fields):
            for key, _ in mapping.items:
                if key.text in _NOT_OF_A_TASK:
                    path = f"{inside}.{key.text}"
                    self.add(key.spot, path, f"'{path}' cannot be set in a task", _NOT_OF_A_TASK[key.text])
            mapping = Fields(
                tuple(item for item in mapping.items if item[0].text not in _NOT_OF_A_TASK), mapping.spot
            )
        return self._context(self.known(mapping, inside, TASK, SKYPILOT_KUBERNETES, {}, ""), inside)

    # ------------------------------------------------------------ contexts

    def _allowed(self, tree: Tree | None, where: str) -> tuple[tuple[str, ...] | None, bool]:
        if tree is None:
            return None, False
        if isinstance(tree, Leaf) and tree.value == "all":
            return None, True
        if isinstance(tree, Leaf) and isinstance(tree.value, str):
            self.add(
                tree.spot, where, f"'{where}' must be a list of contexts, or 'all'", f"write [{tree.text}]"
            )
            return None, False
        if not isinstance(tree, Branch):
            self.add(
                tree.spot, where, f"'{where}' must be a list of contexts, or 'all', found {describe(tree)}"
            )
            return None, False
        names = [self.text(item, where, "a list of names of contexts") for item in tree.items]
        return tuple(dict.fromkeys(name for name in names if name)), False

    def _contexts(self, tree: Tree | None, where: str) -> dict[str, KubernetesConfig]:
        if tree is None:
            return {}
        if not isinstance(tree, Fields):
            self.add(tree.spot, where, f"'{where}' must be a mapping of contexts, found {describe(tree)}")
            return {}
        found = {}
        for key, value in tree.items:
            path = f"{where}.{key.text}"
            elsewhere = {"under 'kubernetes'": ("allowed_contexts", "context_configs")}
            found[key.text] = self._context(
                self.known(value, path, CONTEXT, SKYPILOT_KUBERNETES, elsewhere, ""), path
            )
        return found

    def _context(self, found: Mapping[str, Tree], where: str) -> KubernetesConfig:
        labels, annotations = self._metadata(found.get("custom_metadata"), f"{where}.custom_metadata")
        return KubernetesConfig(
            namespace=self._name(found.get("namespace"), f"{where}.namespace"),
            pod_config=self._pod_config(found.get("pod_config"), f"{where}.pod_config"),
            labels=labels,
            annotations=annotations,
            service_account=self._identity(found.get("remote_identity"), f"{where}.remote_identity"),
            provision_timeout=self.number(
                found.get("provision_timeout"),
                f"{where}.provision_timeout",
                "a number of seconds, or -1 for as long as it takes",
                lambda value: value == FOR_EVER or 0 < value <= 30 * 86400,
            ),
            autoscaler=self.choice(found.get("autoscaler"), f"{where}.autoscaler", AUTOSCALERS),
            queue=self._queue(found.get("kueue"), f"{where}.kueue"),
            ports=self.choice(found.get("ports"), f"{where}.ports", PORT_MODES),
            deadlines=self._deadlines(found.get("deadlines"), f"{where}.deadlines"),
        )

    # ------------------------------------------------------------ fields

    def _name(self, tree: Tree | None, where: str) -> str | None:
        text = self.text(tree, where, "a name")
        if text is None or tree is None:
            return None
        if problem := dns_problem(text):
            self.add(tree.spot, where, f"'{where}' {problem}")
            return None
        return text

    def _pod_config(self, tree: Tree | None, where: str) -> dict[str, object]:
        if tree is None:
            return {}
        config = self.plain(tree, where)
        problems = podconfig.problems(config)
        for problem in problems:
            self.add(tree.spot, where, f"'{where}' {problem}")
        return {} if problems else dict(config)

    def _metadata(self, tree: Tree | None, where: str) -> tuple[dict[str, str], dict[str, str]]:
        if tree is None:
            return {}, {}
        found = self.known(tree, where, ("labels", "annotations"), {}, {}, "")
        return (
            self.texts(found.get("labels"), f"{where}.labels", label_problem),
            self.texts(found.get("annotations"), f"{where}.annotations", annotation_problem),
        )

    def _identities(self, found: dict[str, Tree]) -> dict[str, str]:
        """`remote_identity` as a mapping of contexts; it is taken out of the fields."""
        tree = found.get("remote_identity")
        if not isinstance(tree, Fields):
            return {}
        del found["remote_identity"]
        read = {
            key.text: self._identity(value, f"kubernetes.remote_identity.{key.text}")
            for key, value in tree.items
        }
        return {name: account for name, account in read.items() if account is not None}

    def _identity(self, tree: Tree | None, where: str) -> str | None:
        text = self.text(tree, where, "the name of a service account, or NO_UPLOAD")
        if text is None or tree is None:
            return None
        if text == "NO_UPLOAD":
            return ""
        if text in _SKYPILOT_IDENTITIES:
            hint = "name a service account, or write NO_UPLOAD, which is what nodes get without this"
            self.add(tree.spot, where, f"'{where}' cannot be {text}", hint)
            return None
        if problem := dns_problem(text):
            self.add(tree.spot, where, f"'{where}' {problem}")
            return None
        return text

    def _queue(self, tree: Tree | None, where: str) -> str | None:
        if tree is None:
            return None
        refused = {"admission_timeout": "use `provision_timeout`"}
        found = self.known(tree, where, ("local_queue_name",), refused, {}, "")
        return self._name(found.get("local_queue_name"), f"{where}.local_queue_name")

    def _deadlines(self, tree: Tree | None, where: str) -> dict[str, float]:
        if tree is None:
            return {}
        found = self.known(tree, where, DEADLINES, {}, {}, "")
        read = {
            name: self.number(
                value, f"{where}.{name}", "a number of seconds, more than 0", lambda value: 0 < value <= 3600
            )
            for name, value in found.items()
        }
        return {name: seconds for name, seconds in read.items() if seconds is not None}
