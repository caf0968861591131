"""/metrics: a few figures in the text format that Prometheus reads."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubesim.apiserver.app import ApiServer


def text(api: ApiServer) -> str:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    lines = [
        "# HELP apiserver_storage_objects Number of stored objects by resource.",
        "# TYPE apiserver_storage_objects gauge",
    ]
    for table in sorted(api.store.tables(), key=lambda t: t.resource):
        group, _, plural = table.resource.partition("/")
        name = f"{plural}.{group}" if group else plural
        lines.append(f'apiserver_storage_objects{{resource="{name}"}} {len(table)}')
    lines += [
        "# HELP kubesim_store_revision The newest revision.",
        "# TYPE kubesim_store_revision counter",
        f"kubesim_store_revision {api.store.revision}",
        "# HELP apiserver_longrunning_requests Streams that are open: watches, logs, exec.",
        "# TYPE apiserver_longrunning_requests gauge",
        f"apiserver_longrunning_requests {len(api.streams)}",
        "# HELP process_cpu_seconds_total User and system CPU time.",
        "# TYPE process_cpu_seconds_total counter",
        f"process_cpu_seconds_total {usage.ru_utime + usage.ru_stime:.2f}",
    ]
    return "\n".join(lines) + "\n"
