"""The small kinds of the core group and Lease: what is particular to each in a class of a few lines."""

from __future__ import annotations

import base64

import orjson

from kubesim.apiserver.kinds import placement
from kubesim.apiserver.kinds.addresses import cidr_errors
from kubesim.apiserver.kinds.amounts import amount_errors
from kubesim.apiserver.kinds.base import Context, Strategy, drop, immutable, put
from kubesim.errors import (
    FieldError,
    JsonObject,
    forbidden_field,
    invalid_value,
    required,
    too_long,
)
from kubesim.schema.gojson import syntax_error, value_name
from kubesim.schema.meta import config_key, dns_label, qualified_name
from kubesim.schema.registry import ResourceType

DATA_LIMIT = 1024 * 1024


def _unchanging(old: JsonObject, new: JsonObject, fields: tuple[str, ...]) -> list[FieldError]:
    """The errors of a change to an object that is marked immutable."""
    if not old.get("immutable"):
        return []
    why = "field is immutable when `immutable` is set"
    found = [] if new.get("immutable") else [forbidden_field("immutable", why)]
    return found + [forbidden_field(key, why) for key in fields if old.get(key) != new.get(key)]


class ConfigMapStrategy(Strategy):
    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        size = 0
        for name, text in data.items():
            found.extend(invalid_value(f"data[{name}]", name, why) for why in config_key(name))
            if name in binary:
                why = "duplicate of key present in binaryData"
                found.append(invalid_value(f"data[{name}]", name, why))
            size += len(text.encode())
        for name, text in binary.items():
            found.extend(invalid_value(f"binaryData[{name}]", name, why) for why in config_key(name))
            size += len(text) * 3 // 4
        if size > DATA_LIMIT:
            found.append(too_long("[]", DATA_LIMIT))
        return found

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        return _unchanging(old, new, ("data", "binaryData"))


_BASIC_AUTH = "kubernetes.io/basic-auth"
_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
_ACCOUNT = "kubernetes.io/service-account.name"


class SecretStrategy(Strategy):
    """stringData is for writing only: it goes into data."""

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        text = obj.get("stringData")
        if text:
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in text.items()}
            obj = put(drop(obj, "stringData"), "data", {**(obj.get("data") or {}), **encoded})
        return obj if obj.get("type") else put(obj, "type", "Opaque")

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        data = obj.get("data") or {}
        size = 0
        for name, text in data.items():
            found.extend(invalid_value(f"data[{name}]", name, why) for why in config_key(name))
            size += len(text) * 3 // 4
        if size > DATA_LIMIT:
            found.append(too_long("data", DATA_LIMIT))
        return found + self._typed(obj, data)

    def _typed(self, obj: JsonObject, data: JsonObject) -> list[FieldError]:
        kind = obj["type"]
        if kind == _ACCOUNT_TOKEN:
            named = (obj["metadata"].get("annotations") or {}).get(_ACCOUNT)
            return [] if named else [required(f"metadata.annotations[{_ACCOUNT}]")]
        if kind == _BASIC_AUTH:
            if "username" in data or "password" in data:
                return []
            return [required("data[username]"), required("data[password]")]
        if kind == "kubernetes.io/ssh-auth":
            return [] if data.get("ssh-privatekey") else [required("data[ssh-privatekey]")]
        missing = [required(f"data[{key}]") for key in _KEYS.get(kind, ()) if key not in data]
        if missing or kind not in ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson"):
            return missing
        key = _KEYS[kind][0]
        body = base64.b64decode(data[key])
        try:
            parsed = orjson.loads(body)
        except ValueError:
            return [invalid_value(f"data[{key}]", "<secret contents redacted>", syntax_error(body))]
        if isinstance(parsed, dict) or parsed is None:
            return []
        why = f"json: cannot unmarshal {value_name(parsed)} into Go value of type map[string]interface {{}}"
        return [invalid_value(f"data[{key}]", "<secret contents redacted>", why)]

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        return immutable(old.get("type"), new.get("type"), "type") + _unchanging(old, new, ("data",))


class NamespaceStrategy(Strategy):
    """Born Active, with a finalizer in its spec and its own name as a label."""

    name_rule = staticmethod(dns_label)
    label = "kubernetes.io/metadata.name"

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        meta = obj["metadata"]
        name = meta.get("name")
        labels = meta.get("labels") or {}
        if name and labels.get(self.label) != name:
            obj = put(obj, "metadata", {**meta, "labels": {**labels, self.label: name}})
        return obj

    def prepare_create(self, rt: ResourceType, obj: JsonObject, ctx: Context) -> JsonObject:
        finalizers = list((obj.get("spec") or {}).get("finalizers") or ())
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
        made = put(put(obj, "spec", {"finalizers": finalizers}), "status", {"phase": "Active"})
        return put(made, "metadata", drop(made["metadata"], "generation"))

    def prepare_update(
        self, rt: ResourceType, old: JsonObject, new: JsonObject, subresource: str, ctx: Context
    ) -> JsonObject:
        if subresource == "finalize":
            return {**old, "metadata": new["metadata"], "spec": new["spec"]}
        made = super().prepare_update(rt, old, new, subresource, ctx)
        return put(made, "spec", old["spec"])

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        for at, name in enumerate(obj["spec"].get("finalizers") or ()):
            path = f"spec.finalizers[{at}]"
            found.extend(invalid_value(path, name, why) for why in qualified_name(name))
            if "/" not in name and name not in ("kubernetes", "orphan", "foregroundDeletion"):
                why = "name is neither a standard finalizer name nor is it fully qualified"
                found.append(invalid_value(path, name, why))
        return found

    def validate_status(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        phase = (new.get("status") or {}).get("phase", "")
        deleting = bool(new["metadata"].get("deletionTimestamp"))
        if deleting and phase != "Terminating":
            why = "may only be 'Terminating' if `deletionTimestamp` is not empty"
            return [invalid_value("status.Phase", phase, why)]
        if not deleting and phase != "Active":
            why = "may only be 'Active' if `deletionTimestamp` is empty"
            return [invalid_value("status.Phase", phase, why)]
        return []


class NodeStrategy(Strategy):
    """Created with its status, by a kubelet; allocatable is capacity unless it says otherwise."""

    keep_status_on_create = True

    def default(self, rt: ResourceType, obj: JsonObject) -> JsonObject:
        status = obj.get("status") or {}
        if status.get("capacity") and not status.get("allocatable"):
            obj = put(obj, "status", {**status, "allocatable": status["capacity"]})
        spec = obj.get("spec") or {}
        one, many = spec.get("podCIDR"), spec.get("podCIDRs")
        if one and (not many or many[0] != one):
            obj = put(obj, "spec", {**spec, "podCIDRs": [one]})
        elif many and not one:
            obj = put(obj, "spec", {**spec, "podCIDR": many[0]})
        return obj

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj.get("spec") or {}
        # The real server means the spec, and says metadata.
        found = placement.taints(spec.get("taints") or [], "metadata.taints")
        ranges = spec.get("podCIDRs") or []
        for at, text in enumerate(ranges):
            found += cidr_errors(text, f"spec.podCIDRs[{at}]")
        for part in ("capacity", "allocatable"):
            for name, amount in ((obj.get("status") or {}).get(part) or {}).items():
                found += amount_errors(name, amount, f"status.{part}.{name}")
        return found

    def validate_change(self, rt: ResourceType, old: JsonObject, new: JsonObject) -> list[FieldError]:
        before, after = old.get("spec") or {}, new.get("spec") or {}
        found: list[FieldError] = []
        if before.get("podCIDRs") and before.get("podCIDRs") != after.get("podCIDRs"):
            why = 'node updates may not change podCIDR except from "" to valid'
            found.append(forbidden_field("spec.podCIDRs", why))
        if before.get("providerID") and before.get("providerID") != after.get("providerID"):
            why = 'node updates may not change providerID except from "" to valid'
            found.append(forbidden_field("spec.providerID", why))
        return found


class ServiceAccountStrategy(Strategy):
    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        return []


class LeaseStrategy(Strategy):
    """Heartbeats and leader election: an update says which version it is of."""

    create_on_update = True
    unconditional_update = False

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        spec = obj.get("spec") or {}
        found: list[FieldError] = []
        duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        if duration is not None and duration <= 0:
            found.append(invalid_value("spec.leaseDurationSeconds", duration, "must be greater than 0"))
        if transitions is not None and transitions < 0:
            why = "must be greater than or equal to 0"
            found.append(invalid_value("spec.leaseTransitions", transitions, why))
        return found


_OLD_EVENT_FIELDS = (
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("deprecatedSource", "source"),
)


class EventStrategy(Strategy):
    """Two generations of events: what has an eventTime follows the stricter rules of events.k8s.io."""

    create_on_update = True

    def validate_create(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        found = super().validate_create(rt, obj)
        return found + self._strict(obj) if rt.group == "events.k8s.io" else found

    def validate(self, rt: ResourceType, obj: JsonObject) -> list[FieldError]:
        key = "regarding" if rt.group == "events.k8s.io" else "involvedObject"
        about = obj.get(key) or {}
        namespace = about.get("namespace", "")
        own = obj["metadata"].get("namespace", "")
        found: list[FieldError] = []
        if not namespace:
            if own not in ("default", "kube-system"):
                found.append(
                    invalid_value("involvedObject.namespace", namespace, "does not match event.namespace")
                )
        elif namespace != own:
            found.append(
                invalid_value("involvedObject.namespace", namespace, "does not match event.namespace")
            )
        return found

    def _strict(self, obj: JsonObject) -> list[FieldError]:
        found: list[FieldError] = []
        if not obj.get("eventTime"):
            found.append(required("eventTime"))
        if obj.get("type") not in ("Normal", "Warning"):
            why = f"has invalid value: {obj.get('type', '')}"
            found.append(invalid_value("type", "", why))
        controller = obj.get("reportingController", "")
        if not controller:
            found.append(required("reportingController"))
        found.extend(
            invalid_value("reportingController", controller, why) for why in qualified_name(controller)
        )
        for key, limit in (("reportingInstance", 128), ("action", 128), ("reason", 128)):
            value = obj.get(key, "")
            if not value:
                found.append(required(key))
            elif len(value) > limit:
                found.append(invalid_value(key, "", f"can have at most {limit} characters"))
        if len(obj.get("note", "")) > 1024:
            found.append(invalid_value("note", "", "can have at most 1024 characters"))
        found.extend(
            invalid_value(shown, "", "needs to be unset") for old, shown in _OLD_EVENT_FIELDS if obj.get(old)
        )
        return found
