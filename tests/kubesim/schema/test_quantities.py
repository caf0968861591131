"""Quantities are exact, and are written as Kubernetes writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.schema.quantity import InvalidQuantity, add, canonical, parse


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("100m", "100m"),
        ("1e3", "1e3"),
        ("1E", "1E"),
        ("0", "0"),
        ("0.1Ki", "102400m"),
        (".5", "500m"),
        ("5.", "5"),
        ("-1", "-1"),
        ("0.0000000001", "1n"),
    ],
)
def test_a_quantity_has_one_spelling(text: str, written: str) -> None:
    assert canonical(text) == written


@pytest.mark.parametrize("text", ["lots", "", "1x", "1.2.3", "m", "--1"])
def test_what_is_no_quantity_is_refused_with_the_expression(text: str) -> None:
    with pytest.raises(InvalidQuantity, match="quantities must match the regular expression"):
        parse(text)


def test_an_unknown_suffix_is_named_as_such() -> None:
    with pytest.raises(InvalidQuantity, match="unable to parse quantity's suffix"):
        parse("1mm")


def test_parts_of_a_unit_are_rounded_up() -> None:
    assert parse("100m").value == 1
    assert parse("0.1m").milli == 1
    assert parse("1500m").milli == 1500


@given(
    st.integers(min_value=-(10**12), max_value=10**12),
    st.sampled_from(["n", "u", "m", "", "k", "M", "G", "Ki", "Mi", "Gi", "e3"]),
)
def test_a_quantity_survives_being_written(number: int, suffix: str) -> None:
    quantity = parse(f"{number}{suffix}")
    assert parse(str(quantity)).nanos == quantity.nanos
    assert canonical(str(quantity)) == str(quantity)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_sums_are_exact(one: int, other: int) -> None:
    assert add(parse(f"{one}m"), parse(f"{other}m")).nanos == (one + other) * 10**6
