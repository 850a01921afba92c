"""The log view's records and filter language."""

from __future__ import annotations

import time

import pytest

from engine.logfile import format_line
from engine.messages import LogLine
from engine.triage.query import QueryError, parse
from engine.triage.records import Record, parse_line

NOON = time.mktime((2025, 12, 25, 12, 0, 0, 0, 0, -1))
LINE = "[WARNING] 2025-12-25 11:55:00 fsdp.py:145 - job 3 rank 2 stderr: big unshard, 4.17 GiB"


def record(**changes: object) -> Record:
    fields = {
        "text": "big unshard, 4.17 GiB",
        "level": "WARNING",
        "t": NOON - 300,
        "where": "fsdp.py:145",
        "job": 3,
        "rank": 2,
        "node": "gpu07",
        "version": "v1.1",
        "class_": "nccl_timeout_watchdog",
    }
    return Record(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_line_in_the_articles_format_becomes_a_record() -> None:
    found = parse_line(LINE, node="gpu07", version="v1.1", number=9)
    assert found == record(class_=None, stream="stderr", line=9)


@pytest.mark.parametrize(
    "line",
    [
        "no format at all",
        "[INFO] 2025-13-45 10:30:22 file.py:1 - impossible date",
        "[INFO] 2025-12-25 10:30:22 no place - text",
        "",
    ],
)
def test_any_other_line_is_all_text(line: str) -> None:
    assert parse_line(line + "\n") == Record(text=line)


def test_what_the_engine_writes_is_read_back() -> None:
    line = LogLine(
        t=NOON, level="ERROR", source="rank", text="out: of: memory", job=12, rank=0, where="a.py:7"
    )
    found = parse_line(format_line(line))
    assert (found.level, found.t, found.where) == ("ERROR", NOON, "a.py:7")
    assert (found.job, found.rank, found.text) == (12, 0, "out: of: memory")
    plain = parse_line("[INFO] 2025-12-25 10:30:22 a.py:1 - : starts with a colon")
    assert plain.text == ": starts with a colon"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "level>=warning rank=2 node=gpu07 version=v1.1 class=nccl since=10m text~unshard",
        "level>=warning,rank=2,job=3",
        "rank=1,2,3",
        "rank!=1",
        "rank>1 rank<=2",
        "class=nccl_timeout_watchdog",
        "class~timeout|init",
        'text~"unshard, 4\\.\\d+"',
        "'big unshard,'",
        "UNSHARD !error",
        "!rank=1",
        "text!~gather",
        "node!=gpu08 where~fsdp",
        "since=11:50 until=11:56:30",
        "since=23:40",  # yesterday's: today's has not come
        "class=watchdog",  # any word of the class
        "since=2025-12-25 until=2025-12-25T12:00",
        "level=warn",
        " , level>info ,, ",
    ],
)
def test_a_query_lets_the_record_through(query: str) -> None:
    assert parse(query, now=NOON)(record())


@pytest.mark.parametrize(
    "query",
    [
        "level>warning",
        "level!=warning",
        "rank=0,1",
        "rank!=1,2",
        "class=cuda",
        "since=4m",
        "until=11:50",
        "text~^unshard",
        "!unshard",
        "!rank=2",
        "version=v1.1 node=gpu08",
        "4.17 absent",
    ],
)
def test_a_query_holds_the_record_back(query: str) -> None:
    assert not parse(query, now=NOON)(record())


@pytest.mark.parametrize("query", ["rank=2", "level>=debug", "since=1w", "rank>=0", "node=gpu07"])
def test_a_record_that_does_not_tell_is_held_back(query: str) -> None:
    assert not parse(query, now=NOON)(Record(text="bare"))
    assert parse("rank!=2 text=bare", now=NOON)(Record(text="bare"))


@pytest.mark.parametrize(
    ("query", "complaint", "column"),
    [
        ("levl=info", "did you mean level?", 0),
        ("colour=red", "fields are level, rank", 0),
        ("rank=2 rank~2", "rank does not take ~", 7),
        ("rank=two", "rank is a number, not 'two'", 5),
        ("rank=", "has no value", 5),
        ("level>=loud", "levels are debug, info", 7),
        ("level>=info,error", "takes one value", 0),
        ("text~(", "not a regular expression", 5),
        ('a "b c', 'quote " is not closed', 2),
        ("since=5y", "no moment", 6),
        ("since=1m,2m", "one moment", 6),
        ("a !", "stands alone", 2),
    ],
)
def test_a_mistake_is_told_with_its_place(query: str, complaint: str, column: int) -> None:
    with pytest.raises(QueryError) as caught:
        parse(query, now=NOON)
    assert complaint in str(caught.value)
    assert caught.value.column == column
