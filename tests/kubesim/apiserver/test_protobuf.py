"""Bodies in protobuf stand for the same document as their JSON."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import orjson
import pytest

from kubesim.apiserver.protobuf.decoding import MAGIC, _messages, decode_body
from kubesim.errors import StatusError
from kubesim.schema.decode import decode
from kubesim.schema.registry import builtin
from kubesim.schema.types import ListType, MapType, ObjectType, kind_type

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "labels": {"a": "1", "b": ""},
        "creationTimestamp": "2020-01-02T03:04:05Z",
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": True}
        ],
        "managedFields": [{"manager": "m", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
    },
    "spec": {
        "terminationGracePeriodSeconds": -7,
        "volumes": [
            {"name": "c", "configMap": {"name": "settings", "items": [{"key": "k", "path": "p"}]}},
            {"name": "e", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
        "containers": [
            {
                "name": "main",
                "image": "i",
                "args": ["-x", "ä"],
                "env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "resources": {"limits": {"cpu": "100m", "nvidia.com/gpu": "1"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 5},
                "readinessProbe": {"tcpSocket": {"port": 80}},
            }
        ],
        "tolerations": [{"operator": "Exists", "tolerationSeconds": 0}],
    },
}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "AAEC/w=="}}
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "l"},
    "spec": {"holderIdentity": "me", "renewTime": "2020-01-01T00:00:00.000001Z"},
}


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def scalar(kind: str, value: Any, type_: Any) -> bytes:
    """The payload of a length-delimited field."""
    match kind.rpartition(".")[2]:
        case "string":
            return str(value).encode()
        case "bytes":
            return base64.b64decode(value)
        case "Quantity":
            return field(1, value.encode())
        case "IntOrString" if isinstance(value, str):
            return varint(1 << 3) + varint(1) + field(3, value.encode())
        case "IntOrString":
            return varint(1 << 3) + varint(0) + varint(2 << 3) + varint(value)
        case "Time" | "MicroTime":
            moment = datetime.fromisoformat(value)
            nanos = moment.microsecond * 1000
            return varint(1 << 3) + varint(int(moment.timestamp())) + varint(2 << 3) + varint(nanos)
        case "FieldsV1":
            return field(1, orjson.dumps(value))
        case _:
            return message(kind, value, type_)


def message(name: str, value: dict[str, Any], type_: Any) -> bytes:
    out = b""
    used: set[str] = set()
    for number, known in _messages()[name].items():
        below = type_.fields.get(known.name) if isinstance(type_, ObjectType) else None
        inner = below.type if below is not None else None
        if isinstance(inner, ListType):
            inner = inner.element
        elif isinstance(inner, MapType):
            inner = inner.value
        entries = _messages().get(known.kind + "*")
        if below is None and known.kind in _messages() and isinstance(type_, ObjectType):
            names = {f.name for f in _messages()[known.kind].values()}
            embedded = {k: v for k, v in value.items() if k in names}
            if embedded and not (names & used):
                out += field(number, message(known.kind, embedded, type_))
            continue
        if known.name not in value:
            continue
        used.add(known.name)
        given = value[known.name]
        for one in given.items() if entries else given if known.repeated else [given]:
            if entries:
                pair = field(1, one[0].encode()) + field(2, scalar(entries[2].kind, one[1], inner))
                out += field(number, pair)
            elif known.kind in ("int", "uint", "bool"):
                out += varint(number << 3) + varint(int(one))
            else:
                out += field(number, scalar(known.kind, one, inner))
    return out


def envelope(document: dict[str, Any], package: str) -> bytes:
    group, _, version = document["apiVersion"].rpartition("/")
    kind = document["kind"]
    head = field(1, document["apiVersion"].encode()) + field(2, kind.encode())
    name = f"k8s.io.api.{package}.{version}.{kind}"
    body = message(name, document, kind_type(group, version, kind))
    return MAGIC + field(1, head) + field(2, body)


@pytest.mark.parametrize(
    ("document", "package", "plural"),
    [(POD, "core", "pods"), (SECRET, "core", "secrets"), (LEASE, "coordination", "leases")],
    ids=["pod", "secret", "lease"],
)
def test_a_message_becomes_the_document_that_its_json_is(
    document: dict[str, Any], package: str, plural: str
) -> None:
    group, _, version = document["apiVersion"].rpartition("/")
    rt = builtin().find(group, version, plural)
    assert rt is not None
    decoded = decode_body(envelope(document, package), document["kind"])
    assert decode(rt, decoded, "Strict").obj == decode(rt, document, "Strict").obj


def test_unknown_fields_are_left_out() -> None:
    body = envelope(SECRET, "core")
    head_and_body = body[len(MAGIC) :]
    later = MAGIC + head_and_body + field(99, b"of the future")
    assert decode_body(later, "Secret") == decode_body(body, "Secret")


@pytest.mark.parametrize(
    "body",
    [
        b"no protobuf",
        MAGIC + b"\xff\xff",
        MAGIC + field(1, field(1, b"v1") + field(2, b"Ghost")),
        envelope(POD, "core")[:-20],
        MAGIC + field(1, b"\x0a\xff"),
    ],
    ids=["prefix", "varint", "kind", "truncated", "length"],
)
def test_what_is_no_message_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(StatusError) as caught:
        decode_body(body, "Pod")
    assert caught.value.code == 400
