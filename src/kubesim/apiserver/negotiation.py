"""What a client wants to read and what it has sent: Accept, Content-Type, Accept-Encoding.

JSON and YAML; of objects also their form as a Table or as metadata only. Protobuf is read but never
written: clients that accept something beside it get that, others 406. Pure; the forms themselves are made
elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kubesim import errors
from kubesim.apiserver.requests import JSON, YAML
from kubesim.errors import StatusError

PROTOBUF = "application/vnd.kubernetes.protobuf"
_AVAILABLE = f"{JSON}, {YAML}, {PROTOBUF}"
_AVAILABLE_WATCH = f"{_AVAILABLE}, {JSON};stream=watch, {PROTOBUF};stream=watch"

Form = Literal["Table", "PartialObjectMetadata", "PartialObjectMetadataList"]
_FORMS: dict[str, Form] = {
    "Table": "Table",
    "PartialObjectMetadata": "PartialObjectMetadata",
    "PartialObjectMetadataList": "PartialObjectMetadataList",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """One media range of an Accept header."""

    media: str
    params: tuple[tuple[str, str], ...]
    quality: float

    def param(self, name: str) -> str:
        return next((value for key, value in self.params if key == name), "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to write the answer."""

    media: str = JSON
    form: Form | None = None
    version: str = "v1"
    """Of the form: v1 or v1beta1 of meta.k8s.io."""

    @property
    def plain(self) -> bool:
        """The stored bytes can be sent as they are."""
        return self.media == JSON and self.form is None


@lru_cache(maxsize=512)
def parse_accept(header: str) -> tuple[Clause, ...]:
    """The clauses in order of preference."""
    clauses = []
    for text in header.split(","):
        media, *parameters = (piece.strip() for piece in text.split(";"))
        if not media:
            continue
        pairs = [(k.strip(), v.strip().strip('"')) for k, _, v in (p.partition("=") for p in parameters)]
        quality = next((_number(value) for key, value in pairs if key == "q"), 1.0)
        clauses.append(Clause(media.lower(), tuple(pairs), quality))
    return tuple(sorted(clauses, key=lambda clause: -clause.quality))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


@lru_cache(maxsize=512)
def wanted(accept: str, *, watch: bool = False, forms: bool = True) -> Wanted:
    """What to answer to this Accept header. Raises StatusError 406."""
    clauses = parse_accept(accept) or (Clause("*/*", (), 1.0),)
    known = [clause for clause in clauses if _media(clause.media) is not None or clause.media == PROTOBUF]
    if not known:
        available = _AVAILABLE_WATCH if watch else _AVAILABLE
        text = f"406: Not Acceptable\n\nAvailable representations: {available}"
        raise StatusError(406, "NotAcceptable", text, {})
    for clause in known:
        media = _media(clause.media)
        if media is None or (watch and media == YAML):
            continue
        form = clause.param("as")
        if not form:
            return Wanted(media)
        version = clause.param("v")
        if forms and form in _FORMS and clause.param("g") == "meta.k8s.io" and version in ("v1", "v1beta1"):
            return Wanted(media, _FORMS[form], version)
    raise errors.not_acceptable(f"only the following media types are accepted: {_AVAILABLE}")


def _media(media: str) -> str | None:
    if media in ("*/*", "application/*", JSON):
        return JSON
    return YAML if media == YAML else None


def wants_gzip(accept_encoding: str) -> bool:
    return any(
        clause.media in ("gzip", "*") and clause.quality > 0 for clause in parse_accept(accept_encoding)
    )


def media_type(content_type: str) -> str:
    """The media type of a body without its parameters; JSON when there is none."""
    return content_type.partition(";")[0].strip().lower() or JSON


def check_body_type(content_type: str) -> str:
    """The type of a body that is an object: JSON, YAML or protobuf. Raises StatusError 415."""
    media = media_type(content_type)
    if media in (JSON, YAML, PROTOBUF):
        return media
    raise errors.unsupported_media((JSON, YAML, PROTOBUF))
