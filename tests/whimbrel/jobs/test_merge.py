"""The merged log holds whole lines, says whose they are, and tells what it holds."""

from hypothesis import given
from hypothesis import strategies as st

from whimbrel.jobs.merge import LONGEST, Merger, merged_so_far


def test_lines_of_two_ranks_never_share_one() -> None:
    merger = Merger()
    assert merger.feed(0, b"hel") == b""
    assert merger.feed(1, b"other\n") == b"(rank 1) other\n"
    assert merger.feed(0, b"lo\nwor") == b"(rank 0) hello\n"
    assert merger.end(0) == b"(rank 0) wor\n"
    assert merger.end(1) == b""


def test_a_line_without_end_is_cut_and_counted_once() -> None:
    merger = Merger()
    merged = merger.feed(0, b"x" * (2 * LONGEST + 3) + b"\ny\n")
    assert [len(line) for line in merged.splitlines()] == [LONGEST + 9, LONGEST + 9, 3 + 9, 1 + 9]
    assert merged_so_far(merged.splitlines(keepends=True))[0] == {0: 2 * LONGEST + 3 + 1 + 2}


def test_a_torn_last_line_is_not_counted() -> None:
    consumed, whole = merged_so_far([b"(rank 0) a\n", b"(rank 1) b\n", b"(rank 0) to"])
    assert consumed == {0: 2, 1: 2}
    assert whole == 22


@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 2), st.binary(max_size=40).map(lambda data: data.replace(b"\x00", b"\n")))
    ),
    cut=st.integers(0, 2000),
)
def test_after_a_crash_at_any_byte_merging_goes_on_without_loss_or_repetition(
    pieces: list[tuple[int, bytes]], cut: int
) -> None:
    merger, merged = Merger(), b""
    whole_input = dict.fromkeys(range(3), b"")
    for rank, data in pieces:
        merged += merger.feed(rank, data)
        whole_input[rank] += data
    on_disk = merged[:cut]
    consumed, whole = merged_so_far(_lines(on_disk))
    resumed, log = Merger(), on_disk[:whole]
    for rank, data in whole_input.items():
        log += resumed.feed(rank, data[consumed.get(rank, 0) :]) + resumed.end(rank)
    for rank, data in whole_input.items():
        mine = [line[len(b"(rank 0) ") :] for line in _lines(log) if line.startswith(b"(rank %d) " % rank)]
        wanted = data if not data or data.endswith(b"\n") else data + b"\n"
        assert b"".join(mine) == wanted


def _lines(data: bytes) -> list[bytes]:
    """Lines as a binary file gives them: split at line feeds only."""
    pieces = data.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
