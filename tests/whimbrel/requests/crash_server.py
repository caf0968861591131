"""One server of the crash test, as a process: `crash_server.py STATE CLOUD GATE LEASE [unfenced]`.

Its operation makes two "VMs" in another database, the cloud, by name. `unfenced` switches off the proof of the fence:
the control, which must show the faults that the fence prevents. A request whose body says so stops in the middle of a
step, after the cloud call and before anything is written, until the file GATE appears, and tells that it is there.
"""

import asyncio
import random
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from whimbrel.requests.engine import Engine, Run
from whimbrel.store import queue
from whimbrel.store.engine import Store


class Cloud:
    """Something outside that has state: VMs with names."""

    def __init__(self, path: str) -> None:
        self.path = path

    def ensure(self, name: str, by: str) -> None:
        """Look up, else create: idempotent by name, as Kubernetes is."""
        connection = sqlite3.connect(self.path, timeout=20)
        try:
            with connection:
                connection.execute(
                    "INSERT INTO vms(name, by) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, by)
                )
        finally:
            connection.close()


class Launch:
    """Two VMs, with a little time for each."""

    kind = "launch"

    def __init__(self, cloud: Cloud, gate: Path) -> None:
        self.cloud = cloud
        self.gate = gate

    async def run(self, run: Run) -> dict[str, Any]:
        for name in ("create", "configure"):
            await run.step(name, lambda name=name: self._vm(run, name), deadline=20)  # type: ignore[misc]
        return {"by": run.server_id}

    async def _vm(self, run: Run, name: str) -> dict[str, Any]:
        await asyncio.sleep(random.uniform(0.01, 0.08))
        await asyncio.to_thread(self.cloud.ensure, f"{run.id}-{name}", run.server_id)
        if run.body.get("stop_in") == name and run.fence == 1:
            self.gate.with_suffix(".reached").write_text(run.server_id)
            await asyncio.to_thread(_wait_for, self.gate)
        return {"vm": f"{run.id}-{name}"}


def _wait_for(gate: Path) -> None:
    while not gate.exists():
        time.sleep(0.02)


async def main() -> None:
    state, cloud, gate, lease, *rest = sys.argv[1:]
    if rest == ["unfenced"]:
        queue.holds = lambda fence: ()
        queue.prove = lambda connection, id, fence: None
        queue.renew = lambda connection, held, *, now: [queue.Renewal(id=id, held=True) for id, _, _ in held]
    store = Store.open(state)
    engine = Engine(store, {"launch": Launch(Cloud(cloud), Path(gate))}, workers=3, lease=float(lease))
    await engine.start()
    sys.stdout.write(f"{engine.server_id}\n")
    sys.stdout.flush()
    await engine.join()


asyncio.run(main())
