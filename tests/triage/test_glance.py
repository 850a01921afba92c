"""Does a look at a line's bytes say what the parser says?"""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.triage.glance import Glance
from engine.triage.query import parse
from engine.triage.records import parse_line

QUERIES = (
    "level>=warning", "level=info,error", "level!=info", "!level=info", "level<error", "rank=2",
    "rank!=2", "rank>=1 job=3", "job=3,4", "!job=3", "stream=stderr", "stream!=stderr", "step",
    "rank=0 step", "level=err !step", "level=info where~main", '"rank 2" rank=2', "text~a.c job>2",
    "since=1d rank=1", "",
)  # fmt: skip

_LEVELS = ("INFO", "WARN", "WARNING", "ERR", "ERROR", "FATAL", "CRIT", "CRITICAL", "DEBUG", "info",
           "NOTICE", "INF\u00d6", "")  # fmt: skip
_MOMENTS = ("2026-11-22 06:26:32", "2026-13-22 06:26:32", "2026-02-30 06:26:32",
            "0000-00-00 00:00:00", "2026-11-22 06:26:61", "2026-11-22T06:26:32",
            "\u0662026-11-22 06:26:32")  # fmt: skip
_PLACES = ("main.py:145", "a.py:1 - b.py:2", "a b.py:3", "x\x1cy.py:4", "x.py:\u0663", "main.py",
           "p\xe9.py:7")  # fmt: skip
_ABOUTS = ("", "job 3: ", "job 3 rank 2: ", "rank 0 stderr: ", "stdout: ", ": ", "job 03 rank 2:",
           " rank 1: ", "job 3  rank 2: ", "job \u0663: ", "job 3 stderr rank 2: ",
           "JOB 3: ")  # fmt: skip
_FRACTIONS = ("", ".25", ",3", ".")
_TEXTS = ("", "a step", "job 3: abc", "rank 2", "\u017ftep")

_LINES = st.one_of(
    st.builds(
        lambda level, moment, fraction, place, dash, about, text, end: (
            f"[{level}] {moment}{fraction} {place}{dash}{about}{text}{end}"
        ),
        st.sampled_from(_LEVELS), st.sampled_from(_MOMENTS), st.sampled_from(_FRACTIONS),
        st.sampled_from(_PLACES), st.sampled_from((" - ", " -", " - - ", " \u2013 ")),
        st.sampled_from(_ABOUTS), st.sampled_from(_TEXTS),
        st.sampled_from(("", "\r", "\r\r", " ")),
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=30),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(_LINES, min_size=1, max_size=6), st.sampled_from(QUERIES))
@example([f"[INFO] 2026-{month}-22 06:26:32 a.py:1 - rank 2: x" for month in (11, 13)], "rank=2")
def test_what_the_bytes_tell_is_what_the_parser_tells(lines: list[str], query: str) -> None:
    glance, wanted = Glance(query), parse(query)
    for line in [*lines, *lines]:  # the second time from memory
        verdict = glance.verdict(line.encode())
        assert verdict in (None, wanted(parse_line(line)))


def test_conditions_before_the_text_alone_need_no_parser() -> None:
    line = b"[WARN] 2026-11-22 06:26:32 main.py:145 - job 3 rank 2 stderr: a step"
    for query in ("level>=warning", "rank!=1 job=3", "!stream=stdout"):
        assert Glance(query).verdict(line) is True
    assert Glance("level=error step").verdict(line) is False
    assert Glance("level=warning step").verdict(line) is None  # where the word stands
    assert Glance("rank=2").verdict(b"some other program's line") is False
    assert Glance("rank!=2").verdict(b"some other program's line") is True
