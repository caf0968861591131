"""The answer of a server, or of a proxy before it, that refuses. Pure."""

from __future__ import annotations

from http import HTTPStatus

from kubesim import errors
from kubesim.apiserver.auth import Attributes, refusal
from kubesim.apiserver.faults.matching import Seen
from kubesim.apiserver.requests import Reply, User, json_reply, text_reply
from kubesim.errors import StatusError

_REASONS = {
    400: "BadRequest",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
}
_TOO_MANY = "Too many requests, please try again later."
"""What priority and fairness says, as plain text."""


def answer(seen: Seen, code: int, *, how: str, retry_after: int, message: str) -> Reply:
    """What the client gets."""
    if how == "proxy":
        reply = _proxy(code)
    elif how == "text":
        reply = text_reply((message or (_TOO_MANY if code == 429 else _title(code))) + "\n", code)
        reply.headers.append(("X-Content-Type-Options", "nosniff"))
    else:
        error = _error(seen, code, retry_after, message)
        reply = json_reply(error.to_status(), code)
    if retry_after:
        reply.headers.append(("Retry-After", str(retry_after)))
    return reply


def _error(seen: Seen, code: int, retry_after: int, message: str) -> StatusError:
    error = _usual(seen, code, message)
    if retry_after:
        error.details = {**(error.details or {}), "retryAfterSeconds": retry_after}
    if message and code != 500:
        error.message = message
    return error


def _usual(seen: Seen, code: int, message: str) -> StatusError:
    match code:
        case 401:
            return errors.unauthorized()
        case 403:
            return refusal(User(name=seen.user or "system:anonymous"), _attributes(seen))
        case 404 if seen.name:
            return errors.not_found(seen.group_resource, seen.name)
        case 409 if seen.name:
            return errors.conflict(seen.group_resource, seen.name)
        case 410:
            return errors.gone(f"The resourceVersion for the provided {seen.verb} is too old.")
        case 429:
            return errors.too_many_requests(
                "the server has received too many requests and has asked us to try again later"
            )
        case 500:
            return errors.internal(message or "etcdserver: leader changed")
        case 503:
            return errors.unavailable("the server is currently unable to handle the request", 0)
        case 504:
            return errors.timeout("Timeout: request did not complete within the allotted timeout")
        case _:
            return StatusError(code, _REASONS.get(code, ""), _title(code))


def _attributes(seen: Seen) -> Attributes:
    return Attributes(
        verb=seen.verb,
        path=seen.path,
        group=seen.group,
        resource=seen.resource,
        subresource=seen.subresource,
        namespace=seen.namespace,
        name=seen.name,
    )


def _proxy(code: int) -> Reply:
    title = f"{code} {_title(code)}"
    page = (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Reply(status=code, parts=(page.encode(),), content_type="text/html")


def _title(code: int) -> str:
    """As nginx and net/http have it: 503 is "Service Temporarily Unavailable" only to the former."""
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "Error"
