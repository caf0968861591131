"""Bodies become canonical objects, or are refused in the real server's words."""

import pytest

from kubesim.errors import StatusError
from kubesim.schema.decode import canonical_object, convert, decode, decode_patched, parse_body
from kubesim.schema.registry import ResourceType, builtin
from kubesim.schema.types import type_of

REGISTRY = builtin()


def resource(group: str, version: str, plural: str) -> ResourceType:
    found = REGISTRY.find(group, version, plural)
    assert found is not None
    return found


PODS = resource("", "v1", "pods")
CONFIG_MAPS = resource("", "v1", "configmaps")
SECRETS = resource("", "v1", "secrets")
NODES = resource("", "v1", "nodes")
EVENTS = resource("", "v1", "events")
DEPLOYMENTS = resource("apps", "v1", "deployments")
LEASES = resource("coordination.k8s.io", "v1", "leases")


def refusal(rt: ResourceType, body: dict, validation: str = "Strict") -> str:
    with pytest.raises(StatusError) as caught:
        decode(rt, body, validation)
    assert caught.value.code == 400
    assert caught.value.reason == "BadRequest"
    return caught.value.message


def test_unknown_fields_are_refused_all_at_once_in_the_order_of_the_document() -> None:
    body = {"metadata": {"name": "a", "lables": {}}, "dta": {"k": "v"}}
    assert refusal(CONFIG_MAPS, body) == (
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
        'unknown field "metadata.lables", unknown field "dta"'
    )


def test_unknown_fields_are_dropped_with_a_warning_each_or_silently() -> None:
    body = {"metadata": {"name": "a"}, "dta": {"k": "v"}}
    warned = decode(CONFIG_MAPS, body, "Warn")
    assert warned.warnings == ['unknown field "dta"']
    assert warned.obj == {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}
    assert decode(CONFIG_MAPS, body, "Ignore").warnings == []


def test_an_unknown_field_is_named_with_its_whole_path() -> None:
    containers = [{"name": "c"}, {"name": "d", "prot": 1}]
    body = {"spec": {"replica": 1, "template": {"spec": {"containers": containers}}}}
    assert refusal(DEPLOYMENTS, body).endswith(
        'unknown field "spec.replica", unknown field "spec.template.spec.containers[1].prot"'
    )


def test_duplicate_keys_are_found_in_json_however_it_is_spaced() -> None:
    for text in (
        b'{"metadata":{"name":"d","name":"e"},"data":{"k":"v","k":"w"}}',
        b'{ "metadata" : { "name" : "d" , "name":"e"}, "data": {"k" :"v", "k": "w"} }',
    ):
        body = parse_body("application/json", text, "ConfigMap")
        assert body.duplicates == ('duplicate field "metadata.name"', 'duplicate field "data.k"')
    with pytest.raises(StatusError) as caught:
        decode(CONFIG_MAPS, body.value, "Strict", body.duplicates)
    assert caught.value.message.endswith('duplicate field "metadata.name", duplicate field "data.k"')


def test_strings_that_look_like_keys_are_no_duplicates() -> None:
    body = parse_body("application/json", rb'{"data":{"a":"\"k\":1","b":"\u0022k\u0022:1"}}', "ConfigMap")
    assert body.duplicates == ()
    assert body.value == {"data": {"a": '"k":1', "b": '"k":1'}}


@pytest.mark.parametrize(
    ("rt", "body", "why"),
    [
        (
            CONFIG_MAPS,
            {"data": {"k": 1}},
            "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
        ),
        (
            CONFIG_MAPS,
            {"data": ["k"]},
            "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
        ),
        (
            DEPLOYMENTS,
            {"spec": {"replicas": "3"}},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENTS,
            {"spec": {"replicas": 1.5}},
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            PODS,
            {"spec": {"containers": [{"name": "c", "imagePullPolicy": 1}]}},
            "json: cannot unmarshal number into Go struct field Container.spec.containers.imagePullPolicy "
            "of type v1.PullPolicy",
        ),
        (
            PODS,
            {"spec": {"containers": [{"resources": {"requests": {"cpu": "lots"}}}]}},
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (SECRETS, {"data": {"k": "!!!"}}, "illegal base64 data at input byte 0"),
        (
            LEASES,
            {"spec": {"renewTime": "2020-01-01T00:00:00.5Z"}},
            'parsing time "2020-01-01T00:00:00.5Z" as "2006-01-02T15:04:05.000000Z07:00": '
            'cannot parse ".5Z" as ".000000"',
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_as_go_refuses_it(
    rt: ResourceType, body: dict, why: str
) -> None:
    assert refusal(rt, body, "Ignore") == (
        f'{rt.kind} in version "{rt.version}" cannot be handled as a {rt.kind}: {why}'
    )


@pytest.mark.parametrize(
    ("kind", "api_version", "why"),
    [
        (
            "Secret",
            "v1",
            'Secret in version "v1" cannot be handled as a ConfigMap: '
            "converting (v1.Secret) to (core.ConfigMap): unknown conversion",
        ),
        (
            "ConfigMap",
            "v2",
            'ConfigMap in version "v2" cannot be handled as a ConfigMap: '
            'no kind "ConfigMap" is registered for version "v2" in scheme ',
        ),
        (
            "ConfigMap",
            "apps/v1",
            'ConfigMap in version "v1" cannot be handled as a ConfigMap: '
            'no kind "ConfigMap" is registered for version "apps/v1" in scheme ',
        ),
    ],
)
def test_a_body_of_another_kind_is_refused(kind: str, api_version: str, why: str) -> None:
    assert refusal(CONFIG_MAPS, {"kind": kind, "apiVersion": api_version}).startswith(why)


def test_without_kind_and_version_the_resource_decides() -> None:
    made = decode(CONFIG_MAPS, {"metadata": {"name": "a"}}).obj
    assert (made["kind"], made["apiVersion"]) == ("ConfigMap", "v1")


def test_an_older_version_of_the_same_kind_is_named() -> None:
    autoscalers = resource("autoscaling", "v2", "horizontalpodautoscalers")
    body = {"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1"}
    assert refusal(autoscalers, body) == (
        "the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{", "unexpected end of JSON input ({)"),
        (b"", "unexpected end of JSON input (<empty>)"),
        (b'{"a" 1}', "invalid character '1' after object key ({\"a\" 1})"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string ({\"a\":1,})"),
        (b"tru x", "invalid character ' ' in literal true (expecting 'e') (7472752078)"),
    ],
)
def test_a_body_that_is_no_json_is_refused_with_the_place(text: bytes, why: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse_body("application/json", text, "ConfigMap")
    assert caught.value.message == (
        "the object provided is unrecognized (must be of type ConfigMap): "
        f"couldn't get version/kind; json parse error: {why}"
    )


def test_a_list_is_no_object() -> None:
    with pytest.raises(StatusError) as caught:
        parse_body("application/json", b"[]", "ConfigMap")
    assert caught.value.code == 400


def test_an_unknown_content_type_is_415() -> None:
    with pytest.raises(StatusError) as caught:
        parse_body("text/plain", b"hello", "ConfigMap")
    assert (caught.value.code, caught.value.reason) == (415, "UnsupportedMediaType")


def test_yaml_has_the_booleans_of_yaml_1_1_and_keeps_times_as_text() -> None:
    text = b"data: {a: yes, b: 'yes', c: n, t: 2020-01-01T00:00:00Z}\n"
    assert parse_body("application/yaml; charset=utf-8", text, "ConfigMap").value == {
        "data": {"a": True, "b": "yes", "c": False, "t": "2020-01-01T00:00:00Z"}
    }


def test_yaml_scalars_are_those_of_kubernetes() -> None:
    text = b"{a: 12:30, b: 0x1F, c: 010, d: 1e3, e: 1_000, f: =, g: ~, h: -1.5, i: 1.2.3, 1: x, true: y}"
    assert parse_body("application/yaml", text, "X").value == {
        "a": "12:30",
        "b": 31,
        "c": 8,
        "d": 1000,
        "e": 1000,
        "f": "=",
        "g": None,
        "h": -1.5,
        "i": "1.2.3",
        "1": "x",
        "true": True,
    }


def test_duplicate_keys_in_yaml_are_named_by_line_and_warned_of_in_one() -> None:
    body = parse_body("application/yaml", b"data:\n  k: v\n  k: w\n", "ConfigMap")
    why = 'yaml: unmarshal errors:\n  line 3: key "k" already set in map'
    assert body.duplicates == (why,)
    assert decode(CONFIG_MAPS, body.value, "Warn", body.duplicates).warnings == [why.replace("\n", " ")]


def test_aliases_are_fine_until_they_explode() -> None:
    text = b"data: {a: &x v, b: *x}"
    assert parse_body("application/yaml", text, "X").value == {"data": {"a": "v", "b": "v"}}
    levels = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
        b"a%d: &a%d [%s]\n" % (level, level, b", ".join([b"*a%d" % (level - 1)] * 9)) for level in range(1, 9)
    )
    with pytest.raises(StatusError, match="excessive aliasing"):
        parse_body("application/yaml", levels, "X")


def test_broken_yaml_is_400() -> None:
    with pytest.raises(StatusError) as caught:
        parse_body("application/yaml", b"{{", "ConfigMap")
    assert caught.value.code == 400


def test_what_must_be_there_is_filled_and_what_says_nothing_is_left_out() -> None:
    node = decode(NODES, {"metadata": {"name": "n", "labels": {}}, "spec": {"unschedulable": False}}).obj
    assert node["metadata"] == {"name": "n"}
    assert node["spec"] == {}
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 0}}
    assert node["status"]["nodeInfo"]["kubeletVersion"] == ""
    event = decode(EVENTS, {"metadata": {"name": "e"}, "message": "", "count": 0}).obj
    assert event["firstTimestamp"] is None
    assert event["reportingComponent"] == ""
    assert "message" not in event
    assert "count" not in event


def test_an_explicit_zero_stays_where_absent_means_something_else() -> None:
    deployment = decode(DEPLOYMENTS, {"spec": {"replicas": 0, "minReadySeconds": 0, "selector": {}}}).obj
    assert deployment["spec"]["replicas"] == 0
    assert "minReadySeconds" not in deployment["spec"]
    assert deployment["spec"]["selector"] == {}
    assert decode(DEPLOYMENTS, {"spec": {}}).obj["spec"]["selector"] is None


def test_values_get_their_one_spelling() -> None:
    status = {"capacity": {"cpu": "4000m", "memory": "1024Mi", "nvidia.com/gpu": 2}}
    condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2020-01-01T01:00:00.7+01:00"}
    node = decode(NODES, {"status": {**status, "conditions": [condition]}}).obj
    assert node["status"]["capacity"] == {"cpu": "4", "memory": "1Gi", "nvidia.com/gpu": "2"}
    assert node["status"]["conditions"][0]["lastHeartbeatTime"] == "2020-01-01T00:00:00Z"


def test_decoding_what_was_decoded_changes_nothing() -> None:
    container = {
        "name": "c",
        "image": "i",
        "env": [{"name": "E", "value": ""}],
        "ports": [{"containerPort": 1}],
    }
    once = decode(
        PODS, {"metadata": {"name": "p"}, "spec": {"containers": [container], "hostPID": False}}
    ).obj
    assert canonical_object(PODS, once) == once
    assert convert(type_of(PODS), once)[1] == []


def test_null_is_absent_in_objects_and_zero_in_lists_and_maps() -> None:
    body = {"metadata": None, "data": {"k": None}, "immutable": None, "binaryData": None}
    assert decode(CONFIG_MAPS, body).obj == {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {},
        "data": {"k": ""},
    }


def test_what_a_patch_made_of_an_object_is_refused_as_a_cause_of_the_patch() -> None:
    patched = {"metadata": {"name": "a"}, "data": {"k": 5}}
    with pytest.raises(StatusError) as caught:
        decode_patched(CONFIG_MAPS, patched, lambda: "the document")
    status = caught.value.to_status()
    assert status["code"] == 422
    assert status["details"]["causes"] == [
        {
            "reason": "FieldValueInvalid",
            "message": 'Invalid value: "the document": json: cannot unmarshal number into Go struct field '
            "ConfigMap.data of type string",
            "field": "patch",
        }
    ]
    assert status["message"].startswith(' "" is invalid: patch: Invalid value: "the document"')


def test_every_kind_of_the_registry_has_a_type_that_decodes_an_empty_object() -> None:
    for rt in REGISTRY.all():
        made = decode(rt, {}).obj
        assert decode(rt, made, "Strict").obj == made
