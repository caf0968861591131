"""The faults of the laboratory: how each begins, and what a command that needs the infrastructure has to say of it.

A fault is set on a `Site` that works, and taken away again. Most put an endpoint of `kubewire.testing` behind the
site's gate, in plain TCP or inside of TLS that the client trusts; some are kubesim's own, some in the kubeconfig.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from faults.gate import Passage, Relay, dripping, silence, through, without_end
from faults.lab import ACCOUNT, Site
from kubesim.cluster.home import Home
from kubesim.faults import Faults
from kubewire.testing import broken
from whimbrel.model.exitcodes import ExitCode

Begin = Callable[[Site], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One fault. `code` is how a command ends that needs what is broken; `words` a pattern that its message holds."""

    begin: Begin
    code: ExitCode = ExitCode.UNREACHABLE
    words: str = ""
    core: bool = False
    """Part of `make test`; the others are in `make faults`."""
    known: Sequence[str] = ()
    """Commands to which what was learned shortly before will do here."""


# ------------------------------------------------------------ behind the gate


def endpoint(kind: str, *, inside_tls: bool = False, silently: bool = False, **options: Any) -> Begin:
    """One of `kubewire.testing`'s broken endpoints."""

    @contextmanager
    def begin(site: Site) -> Iterator[None]:
        lab = site.lab
        with lab.entered(broken(kind, **options)) as url:
            port = int(url.rpartition(":")[2])
            front = lab.authority.server_context("127.0.0.1") if inside_tls else None
            with lab.entered(site.gate.leading(through(port, front=front), silently=silently)):
                yield

    return begin


def passing(passage: Passage, *, silently: bool = False) -> Begin:
    """Something that happens to every connection."""

    @contextmanager
    def begin(site: Site) -> Iterator[None]:
        with site.lab.entered(site.gate.leading(passage, silently=silently)):
            yield

    return begin


def certificate(*names: str, days: int = 1) -> Begin:
    """An API server with another certificate, of an authority that the kubeconfig trusts."""

    @contextmanager
    def begin(site: Site) -> Iterator[None]:
        front = site.lab.authority.server_context(*names, days=days)
        with site.lab.entered(site.gate.leading(through(site.lab.port, front=front))):
            yield

    return begin


def between(back: Relay, *, in_clear: bool = False) -> Begin:
    """The real API server, whose answers come through this; `in_clear`: it sees what they say."""

    @contextmanager
    def begin(site: Site) -> Iterator[None]:
        lab = site.lab
        front = behind = None
        if in_clear:
            front = lab.authority.server_context("127.0.0.1")
            behind = ssl.create_default_context(cadata=lab.upstream_ca.decode())
        passage = through(lab.port, front=front, behind=behind, back=back)
        with lab.entered(site.gate.leading(passage)):
            yield

    return begin


@contextmanager
def _closed(site: Site) -> Iterator[None]:
    with site.lab.entered(site.gate.closed()):
        yield


# ------------------------------------------------------------ kubesim's own


def of_kubesim(kind: str, **options: Any) -> Begin:
    """A fault of the API server itself, for the user of the laboratory's contexts."""

    @contextmanager
    def begin(site: Site) -> Iterator[None]:
        faults = Faults.of("local", home=Home(site.lab.house.root / "k"))
        with faults.inject(kind, users=[ACCOUNT], **options):
            yield

    return begin


# ------------------------------------------------------------ in the kubeconfig


@contextmanager
def _gone(site: Site) -> Iterator[None]:
    site.disappear()
    yield
    site.write()


def kubeconfig(server: str = "", user: Mapping[str, Any] | None = None) -> Begin:
    """Another entry in the kubeconfig."""

    @contextmanager
    def begin(site: Site) -> Iterator[None]:
        site.write(server=server, user=user)
        yield
        site.write()

    return begin


_STUCK_PLUGIN = {
    "exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", "echo waiting for a login >&2; exec sleep 600"],
        "interactiveMode": "Never",
    }
}


def _status(code: int, reason: str, **headers: str) -> Begin:
    return endpoint(
        "status",
        inside_tls=True,
        code=code,
        reason=reason,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


OK, FAILED = ExitCode.OK, ExitCode.FAILED

DEFECTS: Mapping[str, Defect] = {
    # nobody answers
    "silent": Defect(begin=passing(silence, silently=True), words="did not answer", core=True),
    "silent-after-tls": Defect(
        begin=endpoint("silent", inside_tls=True, silently=True), words="did not answer"
    ),
    "refused": Defect(begin=_closed, words="refused the connection", core=True),
    "reset": Defect(begin=endpoint("reset"), words="failed the TLS handshake|closed the connection"),
    "reset-after-tls": Defect(begin=endpoint("reset", inside_tls=True), words="closed the connection"),
    "closed": Defect(begin=endpoint("closed", inside_tls=True), words="closed the connection"),
    "drip": Defect(begin=between(dripping), words="did not answer"),
    "drip-after-tls": Defect(begin=endpoint("drip", inside_tls=True), words="did not answer"),
    "truncated": Defect(begin=endpoint("truncated", inside_tls=True), words="closed the connection"),
    "dns": Defect(begin=kubeconfig("https://cluster.invalid:6443"), words="does not resolve|did not answer"),
    # somebody else answers
    "garbage": Defect(begin=endpoint("garbage"), words="failed the TLS handshake"),
    "garbage-after-tls": Defect(begin=endpoint("garbage", inside_tls=True), words="did not answer like"),
    "login-page": Defect(begin=endpoint("html", inside_tls=True), words="did not answer like"),
    "untrusted-certificate": Defect(
        begin=endpoint("untrusted-certificate"), words="TLS.*(self-signed|issuer)"
    ),
    "expired-certificate": Defect(begin=certificate("127.0.0.1", days=-1), words="TLS.*expired", core=True),
    "wrong-name": Defect(begin=certificate("another.example"), words="TLS.*127.0.0.1"),
    # it answers, and refuses
    "401": Defect(begin=_status(401, "Unauthorized"), words="told to answer 401"),
    "403": Defect(begin=_status(403, "Forbidden"), words="told to answer 403"),
    "429": Defect(begin=_status(429, "TooManyRequests"), words="told to answer 429"),
    "429-later": Defect(begin=_status(429, "TooManyRequests", retry_after="30"), words="told to answer 429"),
    "500": Defect(begin=_status(500, "InternalError"), words="told to answer 500"),
    "503": Defect(begin=_status(503, "ServiceUnavailable"), words="told to answer 503"),
    "503-later": Defect(
        begin=_status(503, "ServiceUnavailable", retry_after="30"), words="told to answer 503"
    ),
    # it cannot be asked
    "stuck-plugin": Defect(begin=kubeconfig(user=_STUCK_PLUGIN), words="credential plugin 'sh'"),
    "context-gone": Defect(begin=_gone, words="not in|no context", core=True),
    # it works, in an unpleasant way
    "exec-without-end": Defect(begin=between(without_end, in_clear=True), code=OK, core=True),
    "watches-cut": Defect(begin=of_kubesim("cut", after=0.05), code=OK),
    "watches-expired": Defect(begin=of_kubesim("cut", after=0.05, how="expired"), code=OK),
    "slow-lists": Defect(begin=of_kubesim("delay", delay=0.5, verbs=["list"]), code=OK),
    "lists-too-slow": Defect(
        begin=of_kubesim("delay", delay=6.0, verbs=["list"]), words="did not answer", known=["check", "exec"]
    ),
}
