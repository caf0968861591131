"""MutatingWebhookConfiguration and ValidatingWebhookConfiguration: defaults, and rules in the real server's words."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from kubesim.apiserver.kinds.base import Strategy
from kubesim.apiserver.kinds.matchrules import condition_errors, rule_defaults, rule_errors, selector_errors
from kubesim.apiserver.kinds.pod_defaults import each, filled, replaced
from kubesim.errors import FieldError, JsonObject, duplicate, invalid_value, not_supported, required
from kubesim.schema.admission_cel import compiled
from kubesim.schema.meta import dns_1035_label, dns_subdomain
from kubesim.schema.registry import ResourceType

_NO_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_KNOWN_VERSIONS = ("v1", "v1beta1")
_MOST_SECONDS = 30


class WebhooksStrategy(Strategy):
    generation = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        constants: JsonObject = {
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "timeoutSeconds": 10,
        }
        if rt.kind == "MutatingWebhookConfiguration":
            constants["reinvocationPolicy"] = "Never"

        def webhook(one: JsonObject) -> JsonObject:
            made = filled(one, constants)
            made = replaced(made, "rules", each(rule_defaults))
            return replaced(made, "clientConfig", _with_port)

        return replaced(obj, "webhooks", each(webhook))

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        names: set[str] = set()
        for at, hook in enumerate(obj.get("webhooks") or ()):
            path = f"webhooks[{at}]"
            found += _hook_errors(hook, path)
            name = hook.get("name") or ""
            if name and name in names:
                found.append(duplicate(f"{path}.name", name))
            names.add(name)
        return found


def _with_port(config: JsonObject) -> JsonObject:
    return replaced(config, "service", lambda service: filled(service, {"port": 443}))


def _hook_errors(hook: JsonObject, path: str) -> Iterator[FieldError]:
    yield from _name_errors(hook.get("name") or "", f"{path}.name")
    yield from _review_errors(hook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions")
    for at, rule in enumerate(hook.get("rules") or ()):
        yield from rule_errors(rule, f"{path}.rules[{at}]")
    for key, allowed in (
        ("failurePolicy", ("Fail", "Ignore")),
        ("matchPolicy", ("Equivalent", "Exact")),
        ("reinvocationPolicy", ("IfNeeded", "Never")),
    ):
        if hook.get(key) is not None and hook[key] not in allowed:
            yield not_supported(f"{path}.{key}", hook[key], allowed)
    effects = hook.get("sideEffects")
    if not effects:
        yield required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun")
    elif effects not in _NO_SIDE_EFFECTS:
        yield not_supported(f"{path}.sideEffects", effects, _NO_SIDE_EFFECTS)
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= _MOST_SECONDS:
        why = f"the timeout value must be between 1 and {_MOST_SECONDS} seconds"
        yield invalid_value(f"{path}.timeoutSeconds", seconds, why)
    yield from selector_errors(hook, path)
    yield from client_errors(hook.get("clientConfig") or {}, f"{path}.clientConfig")
    yield from condition_errors(hook.get("matchConditions"), f"{path}.matchConditions", compiled)


def _name_errors(name: str, path: str) -> Iterator[FieldError]:
    if not name:
        yield required(path)
        return
    wrong = dns_subdomain(name)
    yield from (invalid_value(path, name, why) for why in wrong)
    if not wrong and name.count(".") < 2:
        why = "should be a domain with at least three segments separated by dots"
        yield invalid_value(path, name, why)


def _review_errors(versions: list[str], path: str) -> Iterator[FieldError]:
    known = ", ".join(_KNOWN_VERSIONS)
    if not versions:
        yield required(path, f"must specify one of {known}")
        return
    for at, one in enumerate(versions):
        if one in versions[:at]:
            yield invalid_value(f"{path}[{at}]", one, "duplicate version")
        yield from (invalid_value(f"{path}[{at}]", one, why) for why in dns_1035_label(one))
    if not set(versions) & set(_KNOWN_VERSIONS):
        yield invalid_value(path, versions, f"must include at least one of {known}")


def client_errors(config: JsonObject, path: str) -> Iterator[FieldError]:
    """Of where a webhook is: exactly one of a URL and a Service."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        yield required(path, "exactly one of url or service is required")
    elif url is not None:
        yield from _url_errors(url, f"{path}.url")
    elif service is not None:
        yield from _service_errors(service, f"{path}.service")


def _url_errors(url: str, path: str) -> Iterator[FieldError]:
    form = "; desired format: https://host[/path]"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as wrong:
        yield required(path, f"url must be a valid URL: {wrong}{form}")
        return
    if parts.scheme != "https":
        yield invalid_value(path, parts.scheme, f"'https' is the only allowed URL scheme{form}")
    if not parts.hostname:
        yield invalid_value(path, parts.netloc, f"host must be specified{form}")
    if parts.username is not None:
        yield invalid_value(path, parts.username, "user information is not permitted in the URL")
    if parts.fragment:
        yield invalid_value(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        yield invalid_value(path, parts.query, "query parameters are not permitted in the URL")


def _service_errors(service: JsonObject, path: str) -> Iterator[FieldError]:
    if not service.get("name"):
        yield required(f"{path}.name", "service name is required")
    if not service.get("namespace"):
        yield required(f"{path}.namespace", "service namespace is required")
    port = service.get("port", 443)
    if not 0 < port < 65536:
        yield invalid_value(f"{path}.port", port, "port is not valid: must be between 1 and 65535, inclusive")
    text = service.get("path")
    if not text or text == "/":
        return
    if text == "//":
        yield invalid_value(f"{path}.path", text, "segment[0] may not be empty")
    elif not text.startswith("/"):
        yield invalid_value(f"{path}.path", text, "must start with a '/'")
    else:
        steps = text[1:].removesuffix("/").split("/")
        for at, step in enumerate(steps):
            if not step:
                yield invalid_value(f"{path}.path", text, f"segment[{at}] may not be empty")
                continue
            for why in dns_subdomain(step):
                yield invalid_value(f"{path}.path", text, f"segment[{at}]: {why}")
