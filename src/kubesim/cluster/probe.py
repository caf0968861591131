"""Does the API server of a cluster answer? Asked by commands, with the standard library only, within a bound.

Commands that look at a cluster start often and have to be quick, so that no HTTP client is imported for one GET.
Everything else that talks to a cluster goes through kubewire.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from kubesim.cluster.pki import PkiFiles
from kubesim.cluster.record import ClusterRecord

PROBE_TIMEOUT = 2.0


class NoAnswer(Exception):
    """The API server did not answer as a healthy one does."""


def get(record: ClusterRecord, pki: PkiFiles, path: str, *, timeout: float = PROBE_TIMEOUT) -> bytes:
    """The body of a GET as administrator; NoAnswer for anything but 200 within `timeout` per step."""
    try:
        context = ssl.create_default_context(cafile=str(pki.ca_cert))
        context.load_cert_chain(pki.admin_cert, pki.admin_key)
        connection = http.client.HTTPSConnection("127.0.0.1", record.port, timeout=timeout, context=context)
        try:
            connection.request("GET", path, headers={"User-Agent": "kubesim"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
    except TimeoutError:
        raise NoAnswer(f"no answer from {record.server} within {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"{record.server}: {str(error) or type(error).__name__}") from error
    if response.status != 200:
        raise NoAnswer(f"{record.server}{path} answered {response.status}")
    return body


def check_ready(record: ClusterRecord, pki: PkiFiles, *, timeout: float = PROBE_TIMEOUT) -> None:
    """NoAnswer unless the cluster serves, and its process node (if it has one) is ready."""
    get(record, pki, "/readyz", timeout=timeout)
    if not record.process_node:
        return
    nodes: list[dict[str, Any]] = json.loads(get(record, pki, "/api/v1/nodes", timeout=timeout))["items"]
    if not any(_is_ready(node) for node in nodes):
        raise NoAnswer(f"the node of this machine is not ready ({len(nodes)} nodes are registered)")


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
