"""What Kubernetes takes as a name, a label or an annotation, and why not. Pure.

Each function gives a phrase that follows the name of what was refused, or an empty one.
"""

from __future__ import annotations

import re

_DNS = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_OURS = "whimbrel.dev"


def dns_problem(text: str) -> str:
    """Of a name that is a DNS label: a namespace, a service account."""
    if len(text) > 63 or not _DNS.fullmatch(text):
        return f"cannot be {text!r}: a name has up to 63 lower-case letters, digits and '-', inside it"
    return ""


def key_problem(key: str) -> str:
    """Of the key of a label or an annotation."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix)):
        return f"has the prefix {prefix!r}, which is no DNS name"
    if len(name) > 63 or not _NAME.fullmatch(name):
        return "is no name for a label: up to 63 letters, digits, '-', '_' and '.', inside them"
    if prefix == _OURS or prefix.endswith(f".{_OURS}"):
        return "is whimbrel's own"
    return ""


def label_problem(key: str, value: str) -> str:
    """Of a label."""
    if problem := key_problem(key):
        return problem
    if value and (len(value) > 63 or not _NAME.fullmatch(value)):
        return f"cannot be {value!r}: a label's value has up to 63 letters, digits, '-', '_' and '.', inside them"
    return ""


def annotation_problem(key: str, value: str) -> str:
    """Of an annotation."""
    return key_problem(key) or ("is longer than 256 KiB" if len(value) > 262144 else "")
