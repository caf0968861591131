"""Each namespace has the ServiceAccount `default` and the ConfigMap `kube-root-ca.crt`, and gets them back.

Both are made the moment a namespace appears, because pods cannot be created without the first.
"""

from __future__ import annotations

from kubesim.controllers.workqueue import WorkQueue, work
from kubewire.client import Client
from kubewire.errors import AlreadyExists, Forbidden, NotFound
from kubewire.informer import Change, Informers, split_key
from kubewire.resources import CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS

ROOT_CA = "kube-root-ca.crt"
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class AccountsController:
    """Keys are names of namespaces."""

    name = "service accounts and root CA"

    def __init__(self, client: Client, informers: Informers, ca_pem: str) -> None:
        self._client = client
        self._namespaces = informers.of(NAMESPACES)
        self._accounts = informers.of(SERVICE_ACCOUNTS)
        self._config_maps = informers.of(CONFIG_MAPS)
        self._ca_pem = ca_pem
        self._queue = WorkQueue()
        self._namespaces.subscribe(lambda change: self._queue.add(change.key))
        self._accounts.subscribe(self._lost("default"))
        self._config_maps.subscribe(self._lost(ROOT_CA))

    def _lost(self, wanted: str) -> _Handler:
        return _Handler(self._queue, wanted)

    async def run(self) -> None:
        """Work until cancelled."""
        for mirror in (self._namespaces, self._accounts, self._config_maps):
            await mirror.synced.wait()
        await work(self.name, self._queue, self.reconcile, workers=2)

    async def reconcile(self, namespace: str) -> float | None:
        """Make what the namespace lacks."""
        found = self._namespaces.get(namespace)
        if found is None or found.get("status", {}).get("phase") == "Terminating":
            return None
        try:
            if self._accounts.get(f"{namespace}/default") is None:
                await self._make_account(namespace)
            await self._make_root_ca(namespace)
        except (NotFound, Forbidden):  # it is being deleted
            return None
        return None

    async def _make_account(self, namespace: str) -> None:
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        }
        try:
            await self._client.create(SERVICE_ACCOUNTS, account, namespace)
        except AlreadyExists:
            pass  # made by another, which is as good

    async def _make_root_ca(self, namespace: str) -> None:
        data = {"ca.crt": self._ca_pem}
        found = self._config_maps.get(f"{namespace}/{ROOT_CA}")
        if found is None:
            metadata = {
                "name": ROOT_CA,
                "namespace": namespace,
                "annotations": {"kubernetes.io/description": _DESCRIPTION},
            }
            bundle = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            try:
                await self._client.create(CONFIG_MAPS, bundle, namespace)
            except AlreadyExists:
                pass  # the mirror is a moment behind; what it brings is looked at again
        elif found.get("data") != data:
            await self._client.patch(CONFIG_MAPS, ROOT_CA, {"data": data}, namespace)


class _Handler:
    """Wakes the namespace when the object of the wanted name changes in it."""

    def __init__(self, queue: WorkQueue, wanted: str) -> None:
        self._queue = queue
        self._wanted = wanted

    def __call__(self, change: Change) -> None:
        namespace, name = split_key(change.key)
        if namespace and name == self._wanted and change.old is not None:
            self._queue.add(namespace)
