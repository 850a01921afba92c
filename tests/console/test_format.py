"""Does a number, a state or a stranger's text read as it should?"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from console import format as fmt
from console.theme import load
from console.widgets.paint import Paint
from engine.messages import JOB_STATES


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.264, "0.264"), (0.26, "0.26"), (1.0, "1.00"), (9.995, "10.0"), (18.74, "18.7"),
     (99.96, "100"), (141.2, "141"), (999.6, "1,000"), (1230.0, "1,230"), (0.00042, "0.00042"),
     (-18.74, "-18.7"), (math.nan, "n/a"), (math.inf, "n/a")],
)  # fmt: skip
def test_three_significant_digits(value: float, text: str) -> None:
    assert fmt.significant(value) == text


def test_absent_is_never_zero() -> None:
    assert fmt.gib(None) == fmt.NA
    assert fmt.number(None, "fps") == (fmt.NA, "")
    assert fmt.whole(None, "°C") == (fmt.NA, "")
    assert fmt.duration(None) == fmt.NA
    assert fmt.gib(0) == "0"


@pytest.mark.parametrize(
    ("count", "text"), [(int(18.7 * fmt.GIB), "18.7"), (fmt.GIB // 4, "0.25"), (1 << 20, "0.001")]
)
def test_bytes_are_gib(count: int, text: str) -> None:
    assert fmt.gib(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.26, "0.26 s"), (42, "42 s"), (94, "1:34"), (7510, "2:05:10"), (273600, "3 d 4 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert fmt.duration(seconds) == text


def test_every_job_state_has_shape_word_and_ascii_twin() -> None:
    looks = [fmt.state(name) for name in JOB_STATES]
    assert all(look.word and look.shape and look.ascii.isascii() for look in looks)
    assert fmt.state("reticulating").word == "reticulating"


def test_escape_sequences_become_visible() -> None:
    text = fmt.inert("\x1b[2J\x1b]0;owned\x07 ok\r\n\x9b31m \u202egnp.exe \ud800 [bold]x[/bold]")
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    assert "␛[2J" in text
    assert "[bold]x[/bold]" in text
    text.encode("utf-8")


@given(st.text(st.characters(codec=None), max_size=60))
def test_no_stranger_moves_the_cursor(text: str) -> None:
    shown = fmt.inert(text)
    assert all(ord(c) >= 0x20 and not 0x7F <= ord(c) < 0xA0 for c in shown)
    assert all(" " <= c <= "~" for c in fmt.plain(shown))


def test_a_ten_megabyte_line_is_cut() -> None:
    shown = fmt.inert("x" * 10_000_000)
    assert len(shown) < 5000
    assert shown.endswith("more characters]")


@given(st.text(max_size=30), st.integers(0, 30))
def test_fit_is_exactly_as_wide_as_asked(text: str, width: int) -> None:
    assert cell_len(fmt.fit(fmt.inert(text), width)) == width


def test_wide_characters_count_twice() -> None:
    assert fmt.fit("数字人直播", 6) == "数字… "
    assert cell_len(fmt.fit_left("/数据/数字人.mp4", 9)) == 9


def test_wrapping_ends_however_narrow_it_is() -> None:
    for width in (-3, 0, 1, 2):
        assert "".join(fmt.wrap("ab 漢字", width)) == "ab漢字"


def test_chinese_is_wrapped_after_any_character_but_before_no_point() -> None:
    said = "一个 rank 被信号终止：可能是操作员（或调度器）。"
    assert fmt.wrap(said, 20) == ["一个 rank 被信号终", "止：可能是操作员（或", "调度器）。"]
    for width in range(6, 50):
        lines = fmt.wrap(said, width)
        assert "".join(lines).replace(" ", "") == said.replace(" ", "")
        assert not any(line[0] in "：）。" or line[-1] == "（" for line in lines)


def test_wrapping_keeps_every_word() -> None:
    lines = fmt.wrap("Its 4 ranks end within seconds and nothing else is lost", 20)
    assert all(cell_len(line) <= 20 for line in lines)
    assert " ".join(lines).split() == [
        "Its",
        "4",
        "ranks",
        "end",
        "within",
        "seconds",
        "and",
        "nothing",
        "else",
        "is",
        "lost",
    ]


@pytest.mark.parametrize(
    ("unicode", "cut", "end"),
    [(True, "a rank wa…", "…h-job1.mp4"), (False, "a rank...", "...job1.mp4")],
)
def test_what_is_cut_says_so_in_every_character_set(unicode: bool, cut: str, end: str) -> None:
    paint = Paint(load("signature"), unicode)
    assert paint.row(10).outside("a rank was ended").strip().text.rstrip() == cut
    assert paint.row(11).ending("/videos/english-job1.mp4").strip().text == end
