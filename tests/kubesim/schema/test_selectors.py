"""Selectors are read, refused and matched as Kubernetes does it."""

import pytest

from kubesim.apiserver.selectors import (
    field_values,
    from_object,
    parse_field_selector,
    parse_label_selector,
    shown_selector,
)
from kubesim.errors import StatusError
from kubesim.schema.registry import builtin

REGISTRY = builtin()
PODS = REGISTRY.find("", "v1", "pods")
DEPLOYMENTS = REGISTRY.find("apps", "v1", "deployments")
EVENTS = REGISTRY.find("", "v1", "events")
assert PODS is not None
assert DEPLOYMENTS is not None
assert EVENTS is not None

OBJECTS = {
    "a": {"k": "x", "n": "1"},
    "b": {"k": "x", "n": "2"},
    "c": {"k": "y", "n": "1"},
    "d": {"k": "", "only": "d"},
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("k=x", "ab"),
        ("k==x,n=2", "b"),
        ("k!=x", "cd"),
        ("k in (x,y)", "abc"),
        ("k notin (x)", "cd"),
        ("k", "abcd"),
        ("!k", ""),
        ("k in (x,y),n notin (2)", "ac"),
        ("n>1", "b"),
        ("n < 2", "ac"),
        ("k=", "d"),
        ("only", "d"),
        ("", "abcd"),
        ("k in ()", "d"),
        ("in in (a)", ""),
    ],
)
def test_a_label_selector_takes_what_it_says(text: str, names: str) -> None:
    selector = parse_label_selector(text)
    assert "".join(name for name, labels in OBJECTS.items() if selector.matches(labels)) == names
    assert selector.empty is (text == "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("k in x", "unable to parse requirement: found 'x' expected: '('"),
        ("k=x,,", "found ',', expected: identifier after ','"),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("k=b c", "found 'c', expected: ',' or 'end of string'"),
        ("k in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("k=!x", "unable to parse requirement: found '!', expected: identifier"),
        ("k x", "unable to parse requirement: found 'x', expected: in, notin, =, ==, !=, gt, lt"),
        (
            "n>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, "
            "the value must be an integer",
        ),
    ],
)
def test_a_malformed_label_selector_is_refused_where_it_goes_wrong(text: str, why: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse_label_selector(text)
    assert (caught.value.code, caught.value.message) == (400, why)


def test_values_and_keys_have_to_be_labels() -> None:
    with pytest.raises(StatusError, match=r"values\[0\]\[k\]: Invalid value: \"/\": a valid label must be"):
        parse_label_selector("k=/")
    with pytest.raises(StatusError, match='unable to parse requirement: <nil>: Invalid value: "-a"'):
        parse_label_selector("-a")


def test_selectors_in_objects_match_and_print() -> None:
    selector = {
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "t", "operator": "In", "values": ["y", "x"]}],
    }
    assert shown_selector(selector) == "a=b,t in (x,y)"
    assert from_object(selector).matches({"a": "b", "t": "x"})
    assert not from_object(selector).matches({"a": "b", "t": "z"})
    assert from_object({}).matches({"any": "thing"})
    assert not from_object(None).matches({})


def pod(name: str, **spec: object) -> dict:
    return {
        "metadata": {"name": name, "namespace": "n"},
        "spec": {"nodeName": f"n-{name}", "restartPolicy": "Never", **spec},
        "status": {"phase": "Running", "podIP": "10.9.9.9"},
    }


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("metadata.name=a", "a"),
        ("metadata.name!=a", "b"),
        ("metadata.namespace=n", "ab"),
        ("spec.nodeName=n-b", "b"),
        ("spec.nodeName!=n-b,metadata.name!=a", ""),
        ("status.phase=Running,spec.restartPolicy==Never", "ab"),
        ("spec.hostNetwork=true", ""),
        ("spec.hostNetwork=false", "ab"),
        ("status.nominatedNodeName=", "ab"),
        ("status.podIP=10.9.9.9", "ab"),
        ("", "ab"),
    ],
)
def test_a_field_selector_takes_what_it_says(text: str, names: str) -> None:
    selector = parse_field_selector(text, PODS)
    pods = {name: pod(name) for name in "ab"}
    assert "".join(name for name in pods if selector.matches(field_values(PODS, pods[name]))) == names
    assert "".join(name for name in pods if selector.matches_object(PODS, pods[name])) == names


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("spec.containers=x", "field label not supported: spec.containers"),
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("metadata.name>a", "invalid selector: 'metadata.name>a'; can't understand 'metadata.name>a'"),
        ("metadata.name=a\\b", "invalid field selector: invalid escape sequence: \\b"),
    ],
)
def test_a_field_selector_that_the_kind_does_not_know_is_refused(text: str, why: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse_field_selector(text, PODS)
    assert (caught.value.code, caught.value.message) == (400, why)


def test_kinds_without_fields_of_their_own_say_which_two_there_are() -> None:
    with pytest.raises(StatusError) as caught:
        parse_field_selector("status.replicas=1", DEPLOYMENTS)
    assert caught.value.message == (
        '"status.replicas" is not a known field selector: only "metadata.name", "metadata.namespace"'
    )


def test_events_are_selected_by_what_they_are_about() -> None:
    event = {"metadata": {"name": "e"}, "involvedObject": {"name": "p"}, "source": {"component": "me"}}
    values = field_values(EVENTS, event)
    assert values["involvedObject.name"] == "p"
    assert values["source"] == "me"
    assert parse_field_selector("involvedObject.name=p,source=me", EVENTS).fields == {
        "involvedObject.name",
        "source",
    }


def test_commas_and_equal_signs_in_values_are_escaped() -> None:
    selector = parse_field_selector(r"metadata.name=a\,b\=c", PODS)
    assert selector.only("metadata.name") == "a,b=c"
