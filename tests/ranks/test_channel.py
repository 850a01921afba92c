"""Are lines cut rightly and in bounded memory, whatever pieces they come in?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.ranks.channel import LineSplitter


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_lines_do_not_depend_on_how_the_bytes_were_cut(pieces):
    whole = LineSplitter(1 << 20)
    expected = whole.feed(b"".join(pieces)) + whole.flush()
    cut = LineSplitter(1 << 20)
    got = [line for piece in pieces for line in cut.feed(piece)] + cut.flush()
    assert got == expected


def test_a_line_longer_than_the_limit_is_cut_and_counted():
    lines = LineSplitter(10)
    assert lines.feed(b"0123456789abc") == []
    assert lines.feed(b"def") == []
    assert lines.feed(b"\nnext\n") == [(b"0123456789", 6), (b"next", 0)]


def test_an_unfinished_line_can_be_had():
    lines = LineSplitter(10)
    lines.feed(b"half")
    assert lines.pending
    assert lines.flush() == [(b"half", 0)]
    assert not lines.pending
    assert lines.flush() == []
