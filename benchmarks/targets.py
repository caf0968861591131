"""The API servers that the load runs against: a kubesim cluster, or a real kube-apiserver with its etcd."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from load import Target

from kubesim.cluster import pki
from kubesim.cluster.home import Home
from kubesim.cluster.pki import PkiFiles
from kubesim.cluster.probe import NoAnswer, get
from kubesim.cluster.record import ClusterRecord, Phase, StoreKind, read_record

_START = 60.0


@contextmanager
def kubesim_target(kubesim: str, store: str) -> Iterator[Target]:
    """A fresh cluster without nodes."""
    name = f"load-{store}"
    subprocess.run(
        [kubesim, "create", "cluster", "--name", name, "--store", store, "--wait", "30s"],
        check=True,
        capture_output=True,
    )
    try:
        paths = Home.from_environment().cluster(name)
        record = read_record(paths.record)
        if record is None:
            raise SystemExit(f"{paths.record} is missing")
        pid = int(json.loads(paths.daemon.read_text())["pid"])
        files = PkiFiles(paths.pki)
        yield Target(
            name=f"kubesim, {store}",
            port=record.port,
            ca=files.ca_cert,
            certificate=files.admin_cert,
            key=files.admin_key,
            pids=lambda: [pid],
        )
    finally:
        subprocess.run([kubesim, "delete", "cluster", "--name", name], check=False, capture_output=True)


@contextmanager
def real_target(kube_apiserver: str, etcd: str, home: Path) -> Iterator[Target]:
    """kube-apiserver and etcd as they come, with RBAC and certificates as kubesim's."""
    directory = home / "real"
    files = PkiFiles(directory / "pki")
    pki.make(files, "real")
    port, client_port, peer_port = _free_port(), _free_port(), _free_port()
    etcd_url = f"http://127.0.0.1:{client_port}"
    peer_url = f"http://127.0.0.1:{peer_port}"
    commands = [
        [
            etcd,
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
        ],
        [
            kube_apiserver,
            f"--etcd-servers={etcd_url}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            f"--tls-cert-file={files.server_cert}",
            f"--tls-private-key-file={files.server_key}",
            f"--client-ca-file={files.ca_cert}",
            f"--service-account-key-file={files.accounts_public}",
            f"--service-account-signing-key-file={files.accounts_key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/16",
            # no controller makes the default service accounts here
            "--disable-admission-plugins=ServiceAccount",
        ],
    ]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with (directory / f"{number}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=directory))
        _wait_for(files, port, processes, directory)
        yield Target(
            name="kube-apiserver and etcd",
            port=port,
            ca=files.ca_cert,
            certificate=files.admin_cert,
            key=files.admin_key,
            pids=lambda: [process.pid for process in processes],
        )
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(files: PkiFiles, port: int, processes: list[subprocess.Popen[bytes]], directory: Path) -> None:
    record = ClusterRecord(
        name="real",
        phase=Phase.RUNNING,
        store=StoreKind.DURABLE,
        process_node=False,
        port=port,
        kubeconfig="",
        version="",
        created_at="",
    )
    deadline = time.monotonic() + _START
    while True:
        try:
            get(record, files, "/readyz")
            get(record, files, "/api/v1/namespaces/default")
            return
        except NoAnswer as error:
            ended = [process.args for process in processes if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "\n".join(path.read_text()[-2000:] for path in sorted(directory.glob("*.log")))
                raise SystemExit(f"the real API server did not come up: {error}\n{logs}") from None
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
