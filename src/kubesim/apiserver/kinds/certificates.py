"""CertificateSigningRequests: who asks for which certificate; approval and issue are writes of their own.

Nothing here signs. The server notes who asked (`admission.certificates`), and others decide and issue.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

from kubesim.apiserver.kinds.base import Context, Strategy, drop, put
from kubesim.errors import (
    OMITTED,
    FieldError,
    JsonObject,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from kubesim.schema.meta import dns_subdomain
from kubesim.schema.registry import ResourceType

_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip
_BEGIN = "-----BEGIN CERTIFICATE REQUEST-----"
_NOT_PEM = "PEM block type must be CERTIFICATE REQUEST"
_LEGACY = "kubernetes.io/legacy-unknown"
_DECISIONS = ("Approved", "Denied")
_SHORTEST = 600
_QUALIFIED = "must be a fully qualified domain and path of the form 'example.com/signer-name'"


def _any_name(name: str) -> tuple[str, ...]:
    return ()


class SigningRequestStrategy(Strategy):
    name_rule = staticmethod(_any_name)

    def prepare_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str, ctx: Context
    ) -> JsonObject:
        """A request never changes; its conditions do, through the subresource that they belong to."""
        before, after = old.get("status") or {}, new.get("status") or {}
        if subresource == "approval":
            status = _with(before, _stamped(before, after.get("conditions") or [], ctx.now))
        elif subresource == "status":
            status = _with(after, _stamped(before, _decided(before, after), ctx.now))
        else:
            status = before
        return {**old, "metadata": new["metadata"], "status": status}

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj["spec"]
        found: list[FieldError] = []
        if not _is_request(spec.get("request") or ""):
            found.append(invalid_value("spec.request", OMITTED, _NOT_PEM))
        usages = spec.get("usages") or []
        if not usages:
            found.append(required("spec.usages"))
        for at, usage in enumerate(usages):
            if usage not in _USAGES:
                found.append(not_supported(f"spec.usages[{at}]", usage, _USAGES))
            if usage in usages[:at]:
                found.append(duplicate(f"spec.usages[{at}]", usage))
        found += _signer(spec.get("signerName") or "")
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < _SHORTEST:
            why = "may not specify a duration less than 600 seconds (10 minutes)"
            found.append(invalid_value("spec.expirationSeconds", seconds, why))
        return [*found, *_conditions(obj)]

    def validate_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str
    ) -> list[FieldError]:
        found = super().validate_update(rt, old, new, subresource)
        if subresource == "status":
            found += self.validate(rt, new)
        kinds = _kinds(new)
        found.extend(
            forbidden_field("status.conditions", f'updates may not remove a condition of type "{kind}"')
            for kind in ("Approved", "Denied", "Failed")
            if kind in _kinds(old) and kind not in kinds
        )
        return found


def _is_request(encoded: str) -> bool:
    try:
        text = base64.b64decode(encoded, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return False
    return _BEGIN in text


def _signer(name: str) -> Iterator[FieldError]:
    path = "spec.signerName"
    domain, slash, rest = name.partition("/")
    if not name:
        yield required(path)
    elif name == _LEGACY:
        yield invalid_value(path, name, "the legacy signerName is not allowed via this API version")
    elif not slash or "/" in rest:
        yield invalid_value(path, name, _QUALIFIED)
    else:
        for why in dns_subdomain(domain):
            yield invalid_value(path, domain, f"validating label {domain!r}: {why}".replace("'", '"', 2))
        if "." not in domain:
            yield invalid_value(
                path, domain, "should be a domain with at least two segments separated by dots"
            )


def _conditions(obj: JsonObject) -> Iterator[FieldError]:
    path = "status.conditions"
    seen: list[str] = []
    for at, one in enumerate((obj.get("status") or {}).get("conditions") or ()):
        kind, status = one.get("type", ""), one.get("status", "")
        known = ("True",) if kind in ("Approved", "Denied", "Failed") else ("False", "True", "Unknown")
        if not kind:
            yield required(f"{path}[{at}].type")
        if not status:
            yield required(f"{path}[{at}].status")
        elif status not in known:
            yield not_supported(f"{path}[{at}].status", status, known)
        if kind in _DECISIONS and any(other in seen for other in _DECISIONS if other != kind):
            yield invalid_value(path, kind, "Approved and Denied conditions are mutually exclusive")
        if kind in seen:
            yield duplicate(f"{path}[{at}].type", kind)
        seen.append(kind)


def _kinds(obj: JsonObject) -> set[str]:
    return {one.get("type", "") for one in (obj.get("status") or {}).get("conditions") or ()}


def _with(status: JsonObject, conditions: list[JsonObject]) -> JsonObject:
    return put(status, "conditions", conditions) if conditions else drop(status, "conditions")


def _decided(before: JsonObject, after: JsonObject) -> list[JsonObject]:
    """The conditions of a write of the status: what was decided stays as it is."""
    kept = [one for one in before.get("conditions") or () if one.get("type") in _DECISIONS]
    return kept + [one for one in after.get("conditions") or () if one.get("type") not in _DECISIONS]


def _stamped(before: JsonObject, conditions: list[JsonObject], now: str) -> list[JsonObject]:
    """Conditions with the times that their writer left out."""
    known = {(one.get("type"), one.get("status")): one for one in before.get("conditions") or ()}
    made: list[JsonObject] = []
    for one in conditions:
        old = known.get((one.get("type"), one.get("status"))) or {}
        times = {
            "lastUpdateTime": one.get("lastUpdateTime") or now,
            "lastTransitionTime": one.get("lastTransitionTime") or old.get("lastTransitionTime") or now,
        }
        made.append({**one, **times})
    return made
