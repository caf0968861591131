"""Names, labels, annotations, owners and finalizers follow the rules, and errors say which one."""

import pytest

from kubesim.apiserver.validation import validate_create, validate_update
from kubesim.errors import invalid
from kubesim.schema import meta
from kubesim.schema.registry import builtin

CONFIG_MAPS = builtin().find("", "v1", "configmaps")
SERVICES = builtin().find("", "v1", "services")
assert CONFIG_MAPS is not None
assert SERVICES is not None

SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


def errors_of(**metadata: object) -> list[str]:
    obj = {"metadata": {"namespace": "n", **metadata}}
    return [str(error) for error in validate_create(CONFIG_MAPS, obj)]


def test_a_name_with_capitals_is_refused_with_the_whole_rule() -> None:
    assert errors_of(name="Upper_Case") == [f'metadata.name: Invalid value: "Upper_Case": {SUBDOMAIN}']


def test_a_name_that_is_too_long_is_refused() -> None:
    assert errors_of(name="a" * 254) == [
        f'metadata.name: Invalid value: "{"a" * 254}": must be no more than 253 characters'
    ]


def test_dots_are_fine_in_a_subdomain_and_not_in_a_label() -> None:
    assert errors_of(name="dotted.name.is-fine") == []
    assert meta.dns_label("dotted.name") == ("must not contain dots",)
    assert meta.dns_label("9lives") == ()


def test_all_problems_of_an_object_come_at_once() -> None:
    found = errors_of(name="a b", labels={"-bad": "ok", "good": "not good"}, annotations={"x y": "z"})
    assert [text.split(":")[0] for text in found] == [
        "metadata.name",
        "metadata.labels",
        "metadata.labels",
        "metadata.annotations",
    ]
    assert "name part must consist of alphanumeric characters" in found[1]
    assert "a valid label must be an empty string or consist of" in found[2]


def test_a_name_or_a_prefix_is_needed() -> None:
    assert errors_of() == ["metadata.name: Required value: name or generateName is required"]


def test_a_prefix_may_end_with_a_dash() -> None:
    assert errors_of(generateName="gen-", name="gen-abcde") == []
    assert [text.split(":")[0] for text in errors_of(generateName="No_", name="No_abcde")] == [
        "metadata.generateName",
        "metadata.name",
    ]


def test_owners_need_all_their_parts() -> None:
    assert errors_of(name="o", ownerReferences=[{"kind": "Pod", "name": "p"}]) == [
        'metadata.ownerReferences.apiVersion: Invalid value: "": version must not be empty',
        'metadata.ownerReferences.uid: Invalid value: "": must not be empty',
    ]


def test_finalizers_are_qualified() -> None:
    assert errors_of(name="f", finalizers=["plain", "orphan", "example.com/x"]) == [
        'metadata.finalizers[0]: Invalid value: "plain": name is neither a standard finalizer name nor is it '
        "fully qualified"
    ]


def test_a_change_of_the_uid_is_reported_once_in_the_message_and_twice_in_the_causes() -> None:
    old = {"metadata": {"name": "a", "namespace": "n", "uid": "1"}}
    new = {"metadata": {"name": "a", "namespace": "n", "uid": "2"}}
    status = invalid("ConfigMap", "a", validate_update(CONFIG_MAPS, old, new)).to_status()
    assert (
        status["message"] == 'ConfigMap "a" is invalid: metadata.uid: Invalid value: "2": field is immutable'
    )
    assert [cause["field"] for cause in status["details"]["causes"]] == ["metadata.uid", "metadata.uid"]


def test_an_update_keeps_what_a_client_may_leave_out() -> None:
    old = {
        "name": "a",
        "uid": "1",
        "creationTimestamp": "2020-01-01T00:00:00Z",
        "deletionTimestamp": "2020-01-02T00:00:00Z",
        "deletionGracePeriodSeconds": 30,
        "generation": 3,
    }
    assert meta.carry_over(old, {"name": "a", "selfLink": "x"}) == old


def test_finalizers_cannot_be_added_while_an_object_is_deleted() -> None:
    old = {"name": "a", "namespace": "n", "deletionTimestamp": "2020-01-02T00:00:00Z"}
    new = {**old, "finalizers": ["example.com/x"]}
    found = {str(error) for error in validate_update(CONFIG_MAPS, {"metadata": old}, {"metadata": new})}
    assert found == {
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"example.com/x"}'
    }


def test_generated_names_are_the_prefix_and_five_characters_and_never_too_long() -> None:
    assert meta.generated_name("gen-", lambda letters: letters[0]) == "gen-bbbbb"
    assert len(meta.generated_name("x" * 80, lambda letters: letters[-1])) == 63


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("a/b/c", "a qualified name must consist of"),
        ("/b", "prefix part must be non-empty"),
        ("a/", "name part must be non-empty"),
        ("A_/b", "prefix part a lowercase RFC 1123 subdomain"),
        ("x" * 64, "name part must be no more than 63 characters"),
    ],
)
def test_what_is_wrong_with_a_qualified_name_is_said_of_its_part(name: str, wrong: str) -> None:
    assert meta.qualified_name(name)[0].startswith(wrong)


def test_keys_of_config_maps_are_file_names() -> None:
    assert meta.config_key("a.b-c_D") == ()
    assert meta.config_key("..") == ("must not be '..'",)
    assert meta.config_key("..x") == ("must not start with '..'",)
    assert meta.config_key("a/b")[0].startswith("a valid config key must consist of")
