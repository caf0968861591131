"""Tokens of service accounts: TokenRequest issues them, the Authenticator reads them.

JSON Web Tokens signed with the cluster's own P-256 key, so that they outlive a restart, end when their time
or their account does, and can be checked by others who have the public key. `cryptography` is loaded with the
first token and not before: a cluster that uses none does not pay for it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import OrderedDict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from kubesim import clock, errors
from kubesim.apiserver.auth import AUTHENTICATED
from kubesim.apiserver.calls import Call
from kubesim.apiserver.core import Core
from kubesim.apiserver.options import write_options
from kubesim.apiserver.requests import JsonObject, Reply, User
from kubesim.apiserver.writing import attempt, read_as
from kubesim.store import Store

ISSUER = "https://kubernetes.default.svc.cluster.local"
LEAST_SECONDS, MOST_SECONDS = 600, 2**32
_KNOWN = 1024


class Signer:
    """Signs and verifies with one P-256 key (ES256)."""

    def __init__(self, key_file: Path | None = None) -> None:
        self._key_file = key_file
        self._key: Any = None

    def _loaded(self) -> Any:
        if self._key is None:
            # Lazy: importing cryptography costs a daemon that issues no token time and memory.
            from cryptography.hazmat.primitives.asymmetric import ec
            from cryptography.hazmat.primitives.serialization import load_pem_private_key

            if self._key_file is not None:
                self._key = load_pem_private_key(self._key_file.read_bytes(), None)
            else:
                self._key = ec.generate_private_key(ec.SECP256R1())
        return self._key

    def sign(self, claims: JsonObject) -> str:
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        head = _encode(json.dumps({"alg": "ES256", "typ": "JWT"}).encode())
        signed = head + "." + _encode(orjson.dumps(claims))
        r, s = decode_dss_signature(self._loaded().sign(signed.encode(), ECDSA(SHA256())))
        return f"{signed}.{_encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def verify(self, token: str) -> JsonObject | None:
        """The claims of a token that this key has signed, else None."""
        parts = token.split(".")
        if len(parts) != 3:
            return None
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            head, raw = orjson.loads(_decode(parts[0])), _decode(parts[2])
            if head.get("alg") != "ES256" or len(raw) != 64:
                return None
            signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
            self._loaded().public_key().verify(signature, f"{parts[0]}.{parts[1]}".encode(), ECDSA(SHA256()))
            claims = orjson.loads(_decode(parts[1]))
        except (binascii.Error, ValueError, AttributeError, InvalidSignature):
            return None
        return claims if isinstance(claims, dict) else None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


class ServiceAccountTokens:
    """Issues tokens, and knows who presents one: a TokenReader for the Authenticator."""

    def __init__(self, store: Store, signer: Signer) -> None:
        self._store = store
        self._signer = signer
        self._claims: OrderedDict[str, JsonObject] = OrderedDict()

    def issue(
        self, account: JsonObject, seconds: int, audiences: list[str], bound: JsonObject | None, now: datetime
    ) -> str:
        meta = account["metadata"]
        kubernetes: JsonObject = {
            "namespace": meta["namespace"],
            "serviceaccount": {"name": meta["name"], "uid": meta["uid"]},
        }
        if bound:
            kubernetes[bound["kind"].lower()] = {"name": bound["name"], "uid": bound["uid"]}
        issued = int(now.timestamp())
        claims = {
            "aud": audiences,
            "exp": issued + seconds,
            "iat": issued,
            "nbf": issued,
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
            "kubernetes.io": kubernetes,
        }
        return self._signer.sign(claims)

    def user(self, token: str) -> User | None:
        if token.count(".") != 2:
            return None
        claims = self._claims.get(token)
        if claims is None:
            claims = self._signer.verify(token)
            if claims is None:
                return None
            self._claims[token] = claims
            if len(self._claims) > _KNOWN:
                self._claims.popitem(last=False)
        return self._user_of(claims)

    def _user_of(self, claims: JsonObject) -> User | None:
        """The user, if the token's time has not run out and what it is bound to is still there."""
        now = clock.timestamp()
        if not claims["nbf"] <= now + 60 or now >= claims["exp"]:
            return None
        bound = claims["kubernetes.io"]
        namespace, account = bound["namespace"], bound["serviceaccount"]
        if not self._exists("/serviceaccounts", namespace, account):
            return None
        extra: dict[str, tuple[str, ...]] = {}
        for kind in ("pod", "secret"):
            if kind in bound:
                if not self._exists(f"/{kind}s", namespace, bound[kind]):
                    return None
                extra[f"authentication.kubernetes.io/{kind}-name"] = (bound[kind]["name"],)
                extra[f"authentication.kubernetes.io/{kind}-uid"] = (bound[kind]["uid"],)
        return User(
            name=f"system:serviceaccount:{namespace}:{account['name']}",
            groups=("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED),
            uid=account["uid"],
            extra=extra,
        )

    def _exists(self, resource: str, namespace: str, what: JsonObject) -> bool:
        stored = self._store.get(resource, f"{namespace}/{what['name']}")
        return stored is not None and b'"uid":"' + what["uid"].encode() + b'"' in stored.data


async def create(core: Core, call: Call) -> Reply:
    """POST serviceaccounts/NAME/token."""
    options = write_options(call.request, "CreateOptions")
    asked = read_as(call, "authentication.k8s.io", "v1", "TokenRequest", options).obj
    tried = attempt(call, "CREATE", options, call.name, of=("authentication.k8s.io", "v1", "TokenRequest"))
    call.head()
    asked = await core.admission.ask(core, tried, asked) or asked
    spec = asked.get("spec") or {}
    account = call.renderer.decoded(call.head())
    seconds = int(spec.get("expirationSeconds") or 3600)
    if seconds < LEAST_SECONDS or seconds > MOST_SECONDS:
        detail = "may not specify a duration less than 10 minutes"
        if seconds > MOST_SECONDS:
            detail = "may not specify a duration larger than 2^32 seconds"
        problem = errors.invalid_value("spec.expirationSeconds", seconds, detail)
        raise errors.invalid("TokenRequest.authentication.k8s.io", "", [problem])
    audiences = spec.get("audiences") or [ISSUER]
    bound = _bound_object(core, call, spec.get("boundObjectRef"))
    now = core.environment.now()
    token = core.tokens.issue(account, seconds, audiences, bound, now)
    meta = account["metadata"]
    expires = (now + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "creationTimestamp": core.environment.timestamp(),
        },
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": spec.get("boundObjectRef"),
        },
        "status": {"token": token, "expirationTimestamp": expires},
    }
    return call.renderer.document(answer, 201)


def _bound_object(core: Core, call: Call, reference: JsonObject | None) -> JsonObject | None:
    """The Pod or Secret that the token shall end with. Raises 404, 409."""
    if not reference:
        return None
    kind, name = reference.get("kind", ""), reference.get("name", "")
    plural = {"Pod": "pods", "Secret": "secrets"}.get(kind)
    if plural is None:
        raise errors.bad_request(f"cannot bind token for serviceaccount to object type {kind}")
    found = core.lookup("", "v1", plural, f"{call.namespace}/{name}")
    if found is None:
        raise errors.not_found(plural, name)
    uid = found["metadata"]["uid"]
    if reference.get("uid") and reference["uid"] != uid:
        raise errors.conflict(
            plural,
            name,
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            "The object might have been deleted and then recreated",
        )
    return {"kind": kind, "name": name, "uid": uid}
