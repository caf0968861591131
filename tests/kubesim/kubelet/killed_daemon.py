"""A daemon to be killed: API server with a durable store, kubelet, and two pods.

`python killed_daemon.py STORE ROOT` prints "ready" when both pods run.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from kubesim.apiserver.app import ApiServer
from kubesim.apiserver.inprocess import InProcessTransport
from kubesim.kubelet.process import ProcessKubelet
from kubesim.store import open_store
from kubewire.client import Client
from kubewire.resources import CONFIG_MAPS, PODS, SERVICE_ACCOUNTS

NODE = "this-machine"
SCRIPTS = {
    "runs": "echo before; until test -e $KUBESIM_ROOT/go; do sleep 0.02; done; echo after; sleep 1000",
    "ends": "until test -e $KUBESIM_ROOT/go; do sleep 0.02; done; echo last; exit 6",
}


async def main(store_folder: Path, root: Path) -> None:
    api = ApiServer(open_store("durable", store_folder))
    await api.start()
    client = Client(InProcessTransport(api))
    root_ca = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-root-ca.crt"},
        "data": {"ca.crt": ""},
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await client.create(SERVICE_ACCOUNTS, account, "default")
    await client.create(CONFIG_MAPS, root_ca, "default")
    kubelet = asyncio.create_task(ProcessKubelet(client, NODE, root, api.nodes).run())
    for name, script in SCRIPTS.items():
        container = {"name": "main", "image": "i", "command": ["sh", "-c", script]}
        spec = {"nodeName": NODE, "restartPolicy": "Never", "containers": [container]}
        await client.create(
            PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}, "default"
        )
    waiting = set(SCRIPTS)
    async for event in client.watch(PODS, "default"):
        if event.type in ("ADDED", "MODIFIED") and event.object["status"].get("phase") == "Running":
            waiting.discard(event.object["metadata"]["name"])
        if not waiting:
            break
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await kubelet


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
