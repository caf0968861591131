"""A request's end is told apart from a stream's end, whatever the pieces look like."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.runtime.framing import ARGV, NotText, ReplyParser, compose, exports, new_nonce

NONCE = "abcdef0123456789abcdef01"
TRAILER = b"\x1e" + NONCE.encode() + b" 7\x1e"


@given(
    st.binary(max_size=200),
    st.lists(st.integers(min_value=0, max_value=260), max_size=8),
    st.binary(max_size=5),
)
def test_the_payload_and_the_code_are_found_however_the_stream_is_cut(
    payload: bytes, cuts: list[int], after: bytes
) -> None:
    whole = payload + TRAILER + after
    parser = ReplyParser(NONCE)
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    got = b"".join(parser.feed(whole[start:end]) for start, end in itertools.pairwise(edges))
    assert got == payload
    assert parser.exit_code == 7


@given(st.binary(max_size=100))
def test_a_stream_without_a_trailer_loses_nothing_and_has_no_code(payload: bytes) -> None:
    parser = ReplyParser(NONCE)
    assert parser.feed(payload) + parser.rest() == payload
    assert parser.exit_code is None


def test_bytes_that_look_like_the_beginning_of_a_trailer_are_given_out_once_they_are_none() -> None:
    parser = ReplyParser(NONCE)
    assert parser.feed(b"a\x1eabc") == b"a"
    assert parser.feed(b"x") == b"\x1eabcx"


def test_bytes_that_cannot_be_a_trailer_are_not_held_back() -> None:
    assert ReplyParser(NONCE).feed(b"line\n") == b"line\n"


def test_the_argv_is_the_same_for_every_request_and_short() -> None:
    assert sum(map(len, ARGV)) < 150


def test_the_frame_says_how_many_lines_it_has() -> None:
    count, _, rest = compose("echo a\necho b", NONCE, data_length=0).partition(b"\n")
    assert rest.count(b"\n") == int(count)


def test_nonces_differ() -> None:
    assert new_nonce() != new_nonce()


@pytest.mark.parametrize("name", ["A-B", "1A", "", "A B", "A;rm", "A\n"])
def test_a_name_that_sh_would_not_export_is_refused(name: str) -> None:
    with pytest.raises(NotText):
        exports({name: "x"})


def test_a_nul_byte_is_refused_wherever_it_stands() -> None:
    with pytest.raises(NotText):
        exports({"A": "x\0"})
    with pytest.raises(NotText):
        compose("echo \0", NONCE, data_length=0)
