"""Names that Kubernetes accepts, and one spelling per accelerator."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.model import gpus
from whimbrel.model.errors import InvalidName
from whimbrel.model.names import (
    LONGEST_CLUSTER_NAME,
    MOST_NODES,
    check_cluster_name,
    generate_cluster_name,
    node_name,
    short_uid,
)


@pytest.mark.parametrize("name", ["a", "c1", "my-cluster", "x" * LONGEST_CLUSTER_NAME, "a--b"])
def test_a_dns_label_that_starts_with_a_letter_is_a_cluster_name(name: str) -> None:
    assert check_cluster_name(name) == name


@pytest.mark.parametrize(
    ("name", "why", "instead"),
    [
        ("", "it is empty", "'my-cluster'"),
        ("My_Cluster", "it has upper-case letters", "'my-cluster'"),
        ("my_cluster", "it has '_' in it", "'my-cluster'"),
        ("1st", "it does not start with a letter", "'st'"),
        ("a.b", "it has '.' in it", "'a-b'"),
        ("-a", "it does not start with a letter", "'a'"),
        ("a-", "it ends with '-'", "'a'"),
        ("a" * 51, "it has 51 characters, and only 50 leave room for its nodes", "'" + "a" * 50 + "'"),
        ("日本", "it has", "'my-cluster'"),
        ("a\n", "it has '\\n' in it", "'a'"),
    ],
)
def test_another_name_is_refused_with_the_reason_and_a_name_that_would_do(
    name: str, why: str, instead: str
) -> None:
    with pytest.raises(InvalidName) as refused:
        check_cluster_name(name)
    assert why in refused.value.message
    assert instead in str(refused.value.remedy)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_the_name_that_is_offered_instead_would_be_accepted(name: str) -> None:
    try:
        check_cluster_name(name)
    except InvalidName as refused:
        check_cluster_name(str(refused.remedy).split("'")[-2])


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_a_generated_name_is_a_name_for_any_user(user: str) -> None:
    assert check_cluster_name(generate_cluster_name(user)).startswith("whim-")


def test_generated_names_differ_and_say_whose_they_are() -> None:
    names = {generate_cluster_name("Alice Ä.") for _ in range(20)}
    assert len(names) > 15
    assert all(name.endswith("-alice") for name in names)


def test_the_longest_node_name_fits_into_a_dns_label() -> None:
    name = node_name("x" * LONGEST_CLUSTER_NAME, "0123ABCD-4567-89ab", MOST_NODES - 1)
    assert name == "x" * LONGEST_CLUSTER_NAME + "-0123abcd-999"
    assert len(name) == 63
    with pytest.raises(ValueError, match="rank"):
        node_name("a", "0123456789", MOST_NODES)
    with pytest.raises(ValueError, match="too short"):
        short_uid("abc")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("h100", "H100"),
        ("NVIDIA-H100", "H100"),
        ("a100-80G", "A100-80GB"),
        ("rtx4090", "RTX4090"),
        ("MI300x", "MI300X"),
        ("X9", "X9"),
    ],
)
def test_an_accelerator_has_one_spelling(written: str, meant: str) -> None:
    assert gpus.canonical(written) == meant
    assert gpus.same(written, meant)


def test_the_accelerator_that_was_meant_is_found_among_what_there_is() -> None:
    assert gpus.nearest("H10O") == "H100"
    assert gpus.nearest("h1000", ["A100", "T4", "H100"]) == "H100"
    assert gpus.nearest("quantum", ["A100", "T4"]) is None
