"""The laboratory: one home with a real API server, a real Kubernetes, and contexts to it that can be made to fail.

The server is `whimbrel.server` as it is, but that its deadlines for contexts of the laboratory are short: what is
proven is that a bound holds, not how long it is. The healthy context is `kubesim-local`, with everybody's deadlines.
"""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from e2e.house import House, eventually
from faults.gate import Gate
from kubewire.kubeconfig import load
from kubewire.opening import open_client
from kubewire.resources import PODS, Resource
from kubewire.testing.pki import Authority
from whimbrel.client.http import Http
from whimbrel.model.task import Amount, Resources, Task

T = TypeVar("T")

HEALTHY = "kubesim-local"
PREFIX = "lab-"
"""What the names of contexts begin with that have short deadlines."""
BY_THEN = 20.0
"""Seconds after which a command is killed: well above every budget of the product (`down`: 10)."""
SERVER = Path(__file__).with_name("lab_server.py")
ACCOUNT = "system:serviceaccount:default:lab"
"""As whom contexts of the laboratory come: what a fault of kubesim is set for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a command ended."""

    argv: tuple[str, ...]
    code: int | None  # None: it was still running when it was killed
    out: str
    err: str
    seconds: float

    def __str__(self) -> str:
        return f"{' '.join(self.argv)} -> {self.code} after {self.seconds:.1f} s\n{self.out}{self.err}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A context as commands name it, and how its clusters are called."""

    context: str
    prefix: str

    @property
    def infra(self) -> str:
        """Its name for `whim`."""
        return f"k8s/{self.context}"

    def cluster(self, role: str) -> str:
        """The name of one of its clusters."""
        return f"{self.prefix}-{role}"


@dataclass(slots=True, kw_only=True)
class Site:
    """One context of the laboratory, and the gate that it leads to."""

    lab: Lab
    side: Side
    gate: Gate

    @property
    def context(self) -> str:
        """Its name in the kubeconfig."""
        return self.side.context

    def write(
        self, *, server: str = "", user: Mapping[str, Any] | None = None, tls_server_name: str = ""
    ) -> None:
        """Its entry of the kubeconfig: by default the gate, as somebody with all rights."""
        cluster = {
            "server": server or self.gate.url,
            "certificate-authority-data": base64.b64encode(self.lab.authorities).decode(),
        }
        if tls_server_name:
            cluster["tls-server-name"] = tls_server_name
        self.lab.entries[self.context] = (cluster, dict(user or {"token": self.lab.token}))
        self.lab.write_kubeconfig()

    def disappear(self) -> None:
        """The context is not in the kubeconfig any more."""
        del self.lab.entries[self.context]
        self.lab.write_kubeconfig()


class Lab:
    """See the module. `Lab.build` makes one, `close` proves that nothing of it is left."""

    def __init__(self) -> None:
        self.house = House.build()
        self.authority = Authority("the laboratory's authority")
        self.authorities = b""
        self.token = ""
        self.entries: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        self.port = 0  # of the real API server
        self.upstream_ca = b""
        self._made = 0
        self._address = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="laboratory")
        self._server: subprocess.Popen[bytes] | None = None

    @classmethod
    def build(cls) -> Lab:
        """A laboratory with nothing broken in it yet."""
        lab = cls()
        lab._thread.start()
        try:
            lab._start()
        except BaseException:
            lab.close()
            raise
        return lab

    def _start(self) -> None:
        house = self.house
        house.env["KUBECONFIG"] = f"{house.root / 'kubeconfig'}:{self._own_kubeconfig}"
        self.write_kubeconfig()
        self.start_server()
        house.whim("local", "up")
        self.run(self._prepare())

    def start_server(self) -> None:
        """The API server with the laboratory's deadlines."""
        command = [sys.executable, str(SERVER), self.house.env["WHIMBREL_HOME"]]
        self._server = subprocess.Popen(
            command, env=self.house.env, stdin=subprocess.DEVNULL, start_new_session=True
        )
        eventually(lambda: self.house.run("whim", "api", "info").returncode == 0, "the API server answers")
        info = self.house.json("api", "info")
        assert info["pid"] == self._server.pid
        self._address = info["address"].removeprefix("unix:")

    @property
    def server_pid(self) -> int:
        """Pid of the API server."""
        assert self._server is not None
        return self._server.pid

    @property
    def _own_kubeconfig(self) -> Path:
        return self.house.root / "lab"

    async def _prepare(self) -> None:
        """A service account with all rights: its token passes through a gate that speaks TLS itself."""
        paths = [self.house.root / "kubeconfig"]
        connection = load(paths).connection(HEALTHY)
        self.port = int(connection.server.rpartition(":")[2])
        assert connection.ca_data
        self.upstream_ca = connection.ca_data
        self.authorities = connection.ca_data.rstrip() + b"\n" + self.authority.certificate
        binding = Resource(
            "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
        )
        accounts = Resource("", "v1", "serviceaccounts", "ServiceAccount")
        async with open_client(HEALTHY, paths=paths) as client:
            await client.create(accounts, {"metadata": {"name": "lab"}}, "default")
            await client.create(
                binding,
                {
                    "metadata": {"name": "lab"},
                    "roleRef": {
                        "apiGroup": "rbac.authorization.k8s.io",
                        "kind": "ClusterRole",
                        "name": "cluster-admin",
                    },
                    "subjects": [{"kind": "ServiceAccount", "name": "lab", "namespace": "default"}],
                },
            )
            request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
            answer = await client.create(accounts, request, "default", name="lab", subresource="token")
            self.token = str(answer["status"]["token"])

    # ------------------------------------------------------------ contexts

    @contextmanager
    def site(self, name: str) -> Iterator[Site]:
        """A new context, that nobody has asked anything yet."""
        self._made += 1
        with self.entered(Gate.to(self.port)) as gate:
            context = f"{PREFIX}{name}"
            site = Site(lab=self, side=Side(context=context, prefix=f"f{self._made}"), gate=gate)
            site.write()
            yield site
            self.entries.pop(site.context, None)
            self.write_kubeconfig()

    def healthy_side(self) -> Side:
        """New names on the context that always works."""
        return Side(context=HEALTHY, prefix=f"h{self._made}")

    def write_kubeconfig(self) -> None:
        """All contexts of the laboratory, replaced at once as good tools do."""
        text = yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {"name": name, "cluster": dict(entry[0])} for name, entry in self.entries.items()
                ],
                "users": [{"name": name, "user": dict(entry[1])} for name, entry in self.entries.items()],
                "contexts": [
                    {"name": name, "context": {"cluster": name, "user": name}} for name in self.entries
                ],
            }
        )
        fresh = self._own_kubeconfig.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._own_kubeconfig)

    # ------------------------------------------------------------ commands

    def together(self, *commands: Sequence[str]) -> list[Outcome]:
        """All of these at once, each until it ends or `BY_THEN` is over."""
        with ThreadPoolExecutor(len(commands)) as threads:
            return list(threads.map(self._command, commands))

    def whim(self, *argv: str, code: int | None = 0) -> Outcome:
        """One command, which has to end with this code unless that is None."""
        (outcome,) = self.together(argv)
        assert code is None or outcome.code == code, str(outcome)
        return outcome

    def wait_for_jobs(self, *clusters: str) -> None:
        """Until the first job of each has printed its first line."""

        def begun() -> bool:
            return all(
                self.house.run("whim", "logs", cluster, "1", "--no-follow").stdout for cluster in clusters
            )

        eventually(begun, f"the jobs of {', '.join(clusters)} have begun")

    def clean(self, *sides: Side) -> None:
        """Take down what is left on these sides, all of which work, as a user would; and what purges left behind."""
        prefixes = tuple(side.prefix + "-" for side in sides)

        def all_gone() -> bool:
            known = [cluster["name"] for cluster in self.house.json("status")["clusters"]]
            names = [name for name in known if name.startswith(prefixes)]
            said[:] = [str(self.whim("down", "-y", *names, code=None))] if names else []
            return not names

        said: list[str] = []
        try:
            eventually(all_gone, "what was kept can be removed, as the infrastructure answers again")
        except AssertionError as error:
            raise AssertionError("\n".join((str(error), *said))) from None
        finally:
            self.run(self._delete_pods(prefixes))

    async def _delete_pods(self, prefixes: tuple[str, ...]) -> None:
        async with open_client(HEALTHY, paths=[self.house.root / "kubeconfig"]) as client:
            for pod in (await client.list(PODS, "default")).items:
                if pod["metadata"]["name"].startswith(prefixes):
                    await client.delete(PODS, pod["metadata"]["name"], "default", grace_period=0)

    def _command(self, argv: Sequence[str]) -> Outcome:
        began = time.monotonic()
        code: int | None
        try:
            done = self.house.run("whim", *argv, timeout=BY_THEN)
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired as late:
            code, out, err = None, _text(late.stdout), _text(late.stderr)
        return Outcome(argv=("whim", *argv), code=code, out=out, err=err, seconds=time.monotonic() - began)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One call to the API server, without the cost of a command."""
        http = Http(str(self._address))
        headers = {
            "X-Whimbrel-Kubeconfig": self.house.env["KUBECONFIG"],
            "Idempotency-Key": str(uuid.uuid4()),
        }
        return http.call(method, f"/api/v1/{path}", body, headers=headers)

    def submit_launch(self, cluster: str, infra: str, *, cpus: float) -> str:
        """The id of the request of a launch."""
        task = Task(run="true", resources=Resources(cpus=Amount(value=cpus), infra=infra)).to_wire()
        files = {"workdir": None, "mounts": {}}
        body = {"task": task, "files": files, "down": False, "infra": infra}
        return str(self.ask("POST", f"clusters/{cluster}/launch", body)["request_id"])

    @property
    def cpus(self) -> float:
        """Of the one machine that the Kubernetes has."""
        (check,) = self.ask("POST", "check", {"infra": [f"k8s/{HEALTHY}"]})["results"]
        return float(check["cpus"])

    def states_of(self, requests: Sequence[str]) -> set[str]:
        """Of requests that are not old."""
        states = {one["id"]: str(one["state"]) for one in self.ask("GET", "requests?limit=1000")["requests"]}
        return {states[request] for request in requests}

    # ------------------------------------------------------------ the loop of gates and broken servers

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it in the laboratory's own event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(90)

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Something of that loop, for as long as the block lasts."""
        value = self.run(manager.__aenter__())
        try:
            yield value
        finally:
            self.run(manager.__aexit__(None, None, None))

    def close(self) -> None:
        """End everything."""
        try:
            self.house.close()
        finally:
            if self._server is not None:
                self._server.kill()  # House has ended it; this only reaps it
                self._server.wait(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()


def _text(data: bytes | str | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""
