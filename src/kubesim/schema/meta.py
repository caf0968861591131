"""Names, labels, annotations and the rest of `metadata`: the rules that all kinds share, in the real server's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from kubesim.errors import (
    FieldError,
    JsonObject,
    forbidden_field,
    invalid_value,
    required,
    too_long,
)

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
_CONFIG_KEY = r"[-._a-zA-Z0-9]+"

_label = re.compile(_LABEL, re.ASCII)
_label_1035 = re.compile(_LABEL_1035, re.ASCII)
_subdomain = re.compile(_SUBDOMAIN, re.ASCII)
_qualified = re.compile(_QUALIFIED, re.ASCII)
_value = re.compile(_VALUE, re.ASCII)
_config_key = re.compile(_CONFIG_KEY, re.ASCII)
_port_name = re.compile("[-a-z0-9]+", re.ASCII)

ANNOTATIONS_LIMIT = 256 * 1024
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")

LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character"
)
_LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character"
)
_QUALIFIED_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character"
)

NameRule = Callable[[str], Sequence[str]]


def max_length(limit: int) -> str:
    return f"must be no more than {limit} characters"


def rule_with(text: str, pattern: str, *examples: str) -> str:
    """A rule with examples and the expression behind it, as Kubernetes' RegexError writes it."""
    shown = ",  or ".join(f"'{one}'" for one in examples)
    return f"{text} (e.g. {shown}, regex used for validation is '{pattern}')"


_LABEL_TEXT = rule_with(LABEL_RULE, _LABEL, "my-name", "123-abc")
_LABEL_1035_TEXT = rule_with(_LABEL_1035_RULE, _LABEL_1035, "my-name", "abc-123")
_SUBDOMAIN_TEXT = rule_with(_SUBDOMAIN_RULE, _SUBDOMAIN, "example.com")
_QUALIFIED_TEXT = rule_with(_QUALIFIED_RULE, _QUALIFIED, "MyName", "my.name", "123-abc")
_VALUE_TEXT = rule_with(_VALUE_RULE, _VALUE, "MyValue", "my_value", "12345")
_CONFIG_KEY_TEXT = rule_with(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)


@lru_cache(maxsize=4096)
def dns_label(name: str) -> tuple[str, ...]:
    """What is wrong with a DNS-1123 label."""
    wrong = [max_length(63)] if len(name) > 63 else []
    if not _label.fullmatch(name):
        wrong.append("must not contain dots" if _subdomain.fullmatch(name) else _LABEL_TEXT)
    return tuple(wrong)


@lru_cache(maxsize=4096)
def dns_1035_label(name: str) -> tuple[str, ...]:
    wrong = [max_length(63)] if len(name) > 63 else []
    if not _label_1035.fullmatch(name):
        wrong.append(_LABEL_1035_TEXT)
    return tuple(wrong)


@lru_cache(maxsize=4096)
def dns_subdomain(name: str) -> tuple[str, ...]:
    """What is wrong with a DNS-1123 subdomain."""
    wrong = [max_length(253)] if len(name) > 253 else []
    if not _subdomain.fullmatch(name):
        wrong.append(_SUBDOMAIN_TEXT)
    return tuple(wrong)


_UNDERSCORED = "[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?"
_underscored = re.compile(rf"{_UNDERSCORED}(\.{_UNDERSCORED})*", re.ASCII)
_UNDERSCORED_TEXT = rule_with(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
    "start and end with an alphanumeric character",
    rf"{_UNDERSCORED}(\.{_UNDERSCORED})*",
    "example.com",
)


def dns_subdomain_with_underscores(name: str) -> tuple[str, ...]:
    """What is wrong with a domain to search: names in DNS itself are freer than those of objects."""
    wrong = [max_length(253)] if len(name) > 253 else []
    if not _underscored.fullmatch(name):
        wrong.append(_UNDERSCORED_TEXT)
    return tuple(wrong)


def path_segment(name: str) -> tuple[str, ...]:
    """What is wrong with a name that only has to fit into a path (RBAC)."""
    if name in (".", ".."):
        return (f"may not be '{name}'",)
    return tuple(f"may not contain '{character}'" for character in "/%" if character in name)


@lru_cache(maxsize=4096)
def qualified_name(name: str) -> tuple[str, ...]:
    """What is wrong with `prefix/name`."""
    parts = name.split("/")
    wrong: list[str] = []
    if len(parts) > 2:
        optional = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return (f"a qualified name {_QUALIFIED_TEXT} {optional}",)
    if len(parts) == 2:
        if not parts[0]:
            wrong.append("prefix part must be non-empty")
        else:
            wrong.extend("prefix part " + text for text in dns_subdomain(parts[0]))
    last = parts[-1]
    if not last:
        wrong.append("name part must be non-empty")
    elif len(last) > 63:
        wrong.append("name part " + max_length(63))
    if not _qualified.fullmatch(last):
        wrong.append("name part " + _QUALIFIED_TEXT)
    return tuple(wrong)


@lru_cache(maxsize=4096)
def label_value(value: str) -> tuple[str, ...]:
    wrong = [max_length(63)] if len(value) > 63 else []
    if not _value.fullmatch(value):
        wrong.append(_VALUE_TEXT)
    return tuple(wrong)


def config_key(key: str) -> tuple[str, ...]:
    """What is wrong with a key of a ConfigMap or Secret."""
    wrong = [max_length(253)] if len(key) > 253 else []
    if not _config_key.fullmatch(key):
        wrong.append(_CONFIG_KEY_TEXT)
    elif key == ".":
        wrong.append("must not be '.'")
    elif key == "..":
        wrong.append("must not be '..'")
    elif key.startswith(".."):
        wrong.append("must not start with '..'")
    return tuple(wrong)


def port_name(name: str) -> tuple[str, ...]:
    """What is wrong with the name of a container port (an IANA service name)."""
    wrong = []
    if len(name) > 15:
        wrong.append(max_length(15))
    if not _port_name.fullmatch(name):
        wrong.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", name):
        wrong.append("must contain at least one letter (a-z)")
    if "--" in name:
        wrong.append("must not contain consecutive hyphens")
    if name and (name[0] == "-" or name[-1] == "-"):
        wrong.append("must not begin or end with a hyphen")
    return tuple(wrong)


def labels(value: Mapping[str, str] | None, path: str) -> list[FieldError]:
    """Errors of a map of labels."""
    found: list[FieldError] = []
    for key, text in (value or {}).items():
        found.extend(invalid_value(path, key, why) for why in qualified_name(key))
        found.extend(invalid_value(path, text, why) for why in label_value(text))
    return found


def annotation_errors(value: Mapping[str, str] | None, path: str) -> list[FieldError]:
    found: list[FieldError] = []
    size = 0
    for key, text in (value or {}).items():
        found.extend(invalid_value(path, key, why) for why in qualified_name(key.lower()))
        size += len(key) + len(text)
    if size > ANNOTATIONS_LIMIT:
        found.append(too_long(path, ANNOTATIONS_LIMIT))
    return found


def _owner_references(references: Sequence[JsonObject], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    controller = ""
    for ref in references:
        group, _, version = str(ref.get("apiVersion", "")).rpartition("/")
        if not version:
            found.append(
                invalid_value(f"{path}.apiVersion", ref.get("apiVersion", ""), "version must not be empty")
            )
        found.extend(
            invalid_value(f"{path}.{part}", "", "must not be empty")
            for part in ("kind", "name", "uid")
            if not ref.get(part)
        )
        if ref.get("kind") == "Event" and group in ("", "events.k8s.io") and version:
            shown = f"{group}/{version}, Kind=Event"
            found.append(invalid_value(path, ref, f"{shown} is disallowed from being an owner"))
        if ref.get("controller"):
            if controller:
                text = (
                    "Only one reference can have Controller set to true. Found "
                    f'"true" in references for {controller} and {ref.get("name", "")}'
                )
                found.append(invalid_value(path, references, text))
            controller = controller or str(ref.get("name", ""))
    return found


def _finalizers(names: Sequence[str], path: str) -> list[FieldError]:
    found: list[FieldError] = []
    for name in names:
        found.extend(invalid_value(path, name, why) for why in qualified_name(name))
    if "orphan" in names and "foregroundDeletion" in names:
        why = "finalizer orphan and foregroundDeletion cannot be both set"
        found.append(invalid_value(path, list(names), why))
    for at, name in enumerate(names):
        if "/" not in name and name not in _STANDARD_FINALIZERS:
            why = "name is neither a standard finalizer name nor is it fully qualified"
            found.append(invalid_value(f"{path}[{at}]", name, why))
    return found


def _masked(prefix: str) -> str:
    """A generateName as the name it could become: a trailing dash is fine."""
    return prefix[:-2] + "a" if len(prefix) > 1 and prefix.endswith("-") else prefix


def metadata_errors(
    meta: JsonObject, *, namespaced: bool, rule: NameRule = dns_subdomain
) -> list[FieldError]:
    """Errors in the metadata of an object that is created."""
    found: list[FieldError] = []
    prefix, name = meta.get("generateName", ""), meta.get("name", "")
    if prefix:
        found.extend(invalid_value("metadata.generateName", prefix, why) for why in rule(_masked(prefix)))
    if not name:
        found.append(required("metadata.name", "name or generateName is required"))
    else:
        found.extend(invalid_value("metadata.name", name, why) for why in rule(name))
    namespace = meta.get("namespace", "")
    if namespaced:
        if not namespace:
            found.append(required("metadata.namespace"))
        else:
            found.extend(invalid_value("metadata.namespace", namespace, why) for why in dns_label(namespace))
    elif namespace:
        found.append(forbidden_field("metadata.namespace", "not allowed on this type"))
    if "labels" in meta:
        found.extend(labels(meta["labels"], "metadata.labels"))
    if "annotations" in meta:
        found.extend(annotation_errors(meta["annotations"], "metadata.annotations"))
    if "ownerReferences" in meta:
        found.extend(_owner_references(meta["ownerReferences"], "metadata.ownerReferences"))
    if "finalizers" in meta:
        found.extend(_finalizers(meta["finalizers"], "metadata.finalizers"))
    return found


_IMMUTABLE = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def metadata_update_errors(old: JsonObject, new: JsonObject) -> list[FieldError]:
    """Errors in what an update does to metadata."""
    found: list[FieldError] = []
    if old.get("deletionTimestamp"):
        added = [one for one in new.get("finalizers", ()) if one not in old.get("finalizers", ())]
        if added:
            why = (
                "no new finalizers can be added if the object is being deleted, found new finalizers "
                + _go_set(added)
            )
            found.append(forbidden_field("metadata.finalizers", why))
    if new.get("generation", 0) < old.get("generation", 0):
        generation = new.get("generation", 0)
        found.append(invalid_value("metadata.generation", generation, "must not be decremented"))
    found.extend(
        invalid_value(f"metadata.{key}", new.get(key), "field is immutable")
        for key in _IMMUTABLE
        if new.get(key) != old.get(key)
    )
    return found


def _go_set(names: Sequence[str]) -> str:
    return "[]string{" + ", ".join(f'"{name}"' for name in names) + "}"


def carry_over(old: JsonObject, new: JsonObject) -> JsonObject:
    """The metadata of an update with what a client may leave out and cannot change."""
    meta: dict[str, Any] = dict(new)
    if not meta.get("uid"):
        meta["uid"] = old.get("uid", "")
    for key in ("creationTimestamp", "deletionTimestamp"):
        if old.get(key):
            meta[key] = old[key]
    if old.get("deletionTimestamp") and "deletionGracePeriodSeconds" in old:
        meta.setdefault("deletionGracePeriodSeconds", old["deletionGracePeriodSeconds"])
    for key in ("generation", "deletionGracePeriodSeconds"):
        if key in old and key not in meta:
            meta[key] = old[key]
    meta.pop("selfLink", None)
    return meta


_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
MAX_GENERATED = 63


def generated_name(prefix: str, choose: Callable[[str], str]) -> str:
    """A name from generateName: the prefix and five characters; `choose` picks one of a string."""
    return prefix[: MAX_GENERATED - 5] + "".join(choose(_SUFFIX_ALPHABET) for _ in range(5))
