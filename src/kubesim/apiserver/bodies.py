"""The document in a request body, in whichever of the three media types it came."""

from __future__ import annotations

from kubesim.apiserver.negotiation import PROTOBUF, check_body_type
from kubesim.apiserver.protobuf import decode_body
from kubesim.apiserver.requests import JSON, ApiRequest
from kubesim.schema.decode import Body, parse_body


def read_body(request: ApiRequest, kind: str) -> Body:
    """Raises StatusError 400 for what cannot be read, 415 for what is not spoken here."""
    media = check_body_type(request.headers.get("content-type", JSON))
    if media == PROTOBUF:
        return Body(decode_body(request.body, kind))
    return parse_body(media, request.body, kind, request.document)
