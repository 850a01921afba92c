"""Can one read, filter, search and understand a log of any length on the log page?"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from console.bookmarks import Bookmark, Bookmarks
from console.screens.dialog import Dialog
from console.screens.logs import LogsPage
from console.widgets.logs_lines import LogLines
from console.widgets.logs_sieve import Sieve
from console.widgets.logs_source import FileSource, LiveSource, engine_log
from engine.messages import FindingRaised, LogLine, Remedy
from engine.triage.glance import Glance
from engine.triage.query import parse
from tests.console.conftest import Console, Opener, looks_as_it_did, until
from tests.console.fake_client import T0, Stage
from tests.e2e.harness import ROOT

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.17 GiB. GPU 0 has a total "
    "capacity of 79.15 GiB of which 2.00 GiB is free."
)


def said(number: int, level: str = "INFO", text: str = "", **more: object) -> LogLine:
    body = text or f"line {number:07d}"
    return LogLine(level=level, source="engine", text=body, t=T0 + number, **more)  # type: ignore[arg-type]


async def logs(console: Console) -> tuple[LogsPage, LogLines]:
    await console.press("5")
    page = console.app.page
    assert isinstance(page, LogsPage)
    for _ in range(1000):
        if page.lines.compiled.is_set():
            break
        await console.pilot.pause(0.01)
    return page, page.lines


async def write(console: Console, key: str, text: str) -> None:
    """Open a prompt by its key, paste into it and send it."""
    await console.press(key)
    page = console.app.page
    assert isinstance(page, LogsPage)
    page.lines.prompt.text = ""
    page.lines.post_message(events.Paste(text))
    await console.press("enter")


async def worked(console: Console, lines: LogLines) -> None:
    """Until counting, filter and search have nothing left to do."""
    for _ in range(2000):
        lines._turn()
        if not lines.sieve.left and lines._hunt is None and lines.source.complete:
            break
        await console.pilot.pause(0.002)
    await console.settle()


def shown(console: Console) -> list[int]:
    """Numbers of the lines in sight."""
    page = console.app.page
    assert isinstance(page, LogsPage)
    texts = ["".join(s.text for s in strip) for strip in page.lines._lines[1:]]
    return [int(text.split("line ")[1][:7]) for text in texts if "line 0" in text]


async def test_following_stops_when_one_scrolls_up_and_goes_on_when_asked(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(80, 24)) as console:
        await console.play([said(n) for n in range(100)])
        _, lines = await logs(console)
        assert shown(console)[-1] == 99
        await console.press("up")
        held = shown(console)
        await console.play([said(n) for n in range(100, 200)])
        assert shown(console) == held
        assert not lines.following
        assert lines.number is not None
        assert lines.source.record(lines.number).text == "line 0000098"
        assert "held, 101 newer" in console.text()
        await console.press("end")
        assert shown(console)[-1] == 199
        assert lines.following


async def test_the_page_looks_as_it_did(opened: Opener) -> None:
    async with opened(size=(80, 24)) as console:
        oom = said(21, "ERROR", OOM, job=17, rank=1, where="rank.py:145")
        await console.play([oom, *[said(22 + n, job=17, rank=n % 4) for n in range(5)]])
        _, lines = await logs(console)
        await console.press("E")
        await worked(console, lines)
        await console.press("m")
        await looks_as_it_did(console, "logs")


async def test_the_format_is_the_articles_with_rank_device_and_class(opened: Opener) -> None:
    async with opened(Stage(), size=(200, 50)) as console:
        line = said(10, "ERROR", OOM, job=17, rank=2, where="rank.py:145")
        await console.play([line])
        await logs(console)
        await console.settle()
        text = console.text()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(T0 + 10))
        assert f"[ERROR]    {stamp}" in text
        assert "rank.py:145" in text
        assert "job 17 rank 2 GPU 2 {cuda_oom} torch.OutOfMemoryError" in text


async def test_the_line_under_the_cursor_tells_its_cause_and_remedies(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(120, 40)) as console:
        await console.play([said(1), said(2, "ERROR", OOM, job=17, rank=1), said(3)])
        await logs(console)
        assert "Triage knows nothing of this line." in console.text()
        await console.press("up")
        text = console.text()
        assert "cuda_oom, cause" in text
        assert "The device has no memory left" in text
        assert "Relaunch with the next plan that fits" in text
        remedy = Remedy(id="next", text="Relaunch as tpp on 5 devices.", action="relaunch")
        raised = FindingRaised(id="f", finding="cuda_oom", severity="error", job=17,
                               cause="Rank 1 has no memory left.", remedies=(remedy,))  # fmt: skip
        await console.play([raised])  # what the engine says is about this very job
        text = console.text()
        assert "Relaunch as tpp on 5 devices." in text
        assert "page of incidents" in text


async def test_the_filter_language_narrows_and_says_what_is_wrong(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(120, 40)) as console:
        events = [said(n, "WARNING" if n % 10 == 0 else "INFO", rank=n % 4) for n in range(300)]
        await console.play([*events, said(400, "ERROR", OOM, rank=1)])
        _, lines = await logs(console)
        await write(console, "F", "level>=warning rank=0")
        await worked(console, lines)
        assert len(lines.sieve) == 15
        assert "15 of 301 lines" in console.text()
        await console.play([said(440, "ERROR", rank=0), said(441)])
        assert len(lines.sieve) == 16
        await write(console, "F", "class=cuda")
        await worked(console, lines)
        assert len(lines.sieve) == 1
        await write(console, "F", "lvel=1")
        assert "did you mean level?" in console.text()
        assert lines.prompt.open
        await console.press("escape", "escape")
        assert len(lines.sieve) == 303


async def test_the_level_key_keeps_the_rest_of_the_filter(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(120, 40)) as console:
        _, lines = await logs(console)
        assert lines.apply("rank=0")
        seen = []
        for _ in range(3):
            await console.press("l")
            seen.append(lines.words)
        assert seen == ["level>=warning rank=0", "level>=error rank=0", "rank=0"]


async def test_bookmarks_are_there_when_a_console_comes_back(
    opened: Opener, tmp_path: Path
) -> None:
    kept = tmp_path / "state" / "bookmarks.ndjson"
    other = tmp_path / "other.log"
    other.write_text("one\ntwo\nthree\n")
    events = [said(n) for n in range(40)]
    async with opened(Stage(log_rate=0), size=(80, 24)) as console:
        console.app.bookmarks = Bookmarks(kept)
        await console.play(events)
        page, lines = await logs(console)
        await console.press("up", "up", "m")
        (number,) = lines.bookmarks
        page.open_path(str(other))
        await worked(console, lines)
        await console.press("up", "m")
    (marked,) = Bookmarks(kept).of("")
    assert (marked.text[-3:], marked.t) == ("037", events[37].t)
    # Lines of the same past, with other numbers: the console that comes back saw more before.
    async with opened(Stage(log_rate=1), seconds=30, size=(80, 24)) as console:
        console.app.bookmarks = Bookmarks(kept)
        page, lines = await logs(console)
        assert not lines.bookmarks
        await console.play(events)
        await until(console, lambda: bool(lines.bookmarks))
        assert lines.bookmarks != {number}
        await console.press("b")
        record = lines.record()
        assert record is not None
        assert record.text[-3:] == "037"
        page.open_path(str(other))
        await until(console, lambda: bool(lines.bookmarks))
        record = lines.source.record(*lines.bookmarks)
        assert record.text == "two"
        page.open_path("")
        await console.press("b", "m")  # taken away, for the next one too
    assert Bookmarks(kept).of("") == []
    other.write_text("another\nfile\nnow\n")
    async with opened(Stage(log_rate=0), size=(80, 24)) as console:
        console.app.bookmarks = Bookmarks(kept)
        page, lines = await logs(console)
        page.open_path(str(other))
        await worked(console, lines)
        assert not lines.bookmarks  # that line is no more


def test_bookmarks_outlive_damage_and_two_consoles(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.ndjson"
    path.write_text('{"place": "", "text": "a", "t": 1.5}\n{"place": 3\n[]\n{"text": "b"}\n')
    first, second = Bookmarks(path), Bookmarks(path)
    first.change(Bookmark("", "b", 2.5, job=3, rank=1), kept=True)
    second.change(Bookmark("/x.log", "c", line=7), kept=True)
    assert [mark.text for mark in Bookmarks(path).of("")] == ["a", "b"]
    assert Bookmarks(path).of("/x.log") == [Bookmark("/x.log", "c", line=7)]
    with pytest.raises(OSError, match="Not a directory"):
        Bookmarks(path / "no" / "folder").change(Bookmark("", "d"), kept=True)


async def test_search_errors_bookmarks_and_time_are_jumped_to(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(80, 24)) as console:
        events = [said(n, "ERROR" if n in (20, 150) else "INFO") for n in range(300)]
        await console.play(events)
        page, lines = await logs(console)

        def at() -> str:
            record = lines.record()
            assert record is not None
            return record.text[-3:]

        await console.press("E")
        await worked(console, lines)
        assert at() == "150"
        await console.press("m", "E")
        await worked(console, lines)
        assert at() == "020"
        await console.press("E")
        await worked(console, lines)
        assert "No error above." in console.text()
        await console.press("b")
        assert at() == "150"
        await console.press("m", "down", "m", "M")  # two are set again: the list
        assert isinstance(console.app.screen, Dialog)
        assert "1 bookmark" in console.text()
        assert "00151" in console.text()
        await console.press("enter")
        assert at() == "151"
        page.open_path(str(ROOT / "pyproject.toml"))
        assert not lines.bookmarks
        page.open_path("")
        assert len(lines.bookmarks) == 1  # they wait where they were set
        await write(console, "slash", "00012")
        await worked(console, lines)
        assert at() == "129"
        await console.press("n")
        await worked(console, lines)
        assert at() == "128"
        await write(console, "slash", "00290")  # only below
        await worked(console, lines)
        assert at() == "290"
        clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(T0 + 200))
        await write(console, "t", clock)
        assert at() == "200"
        await write(console, "t", "soon")
        assert "is no moment" in console.text()
        await write(console, "F", "text~nothing")
        assert "No line is selected." in console.text() or not page.details.display


async def test_keys_are_text_while_one_types(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(80, 24)) as console:
        page, lines = await logs(console)
        await console.press("slash", "q", "f", "4", "o", "question_mark")
        assert console.app.screen is page
        assert lines.prompt.text == "qf4o?"
        await console.press("escape")
        assert not lines.prompt.open
        await console.press("o", "slash", "x")  # in the place of the path that stands there
        assert console.app.screen.query_one(Input).value == "/x"


async def test_outside_text_is_shown_and_never_obeyed(opened: Opener) -> None:
    async with opened(Stage(log_rate=0), size=(80, 24)) as console:
        evil = "\x1b[2J\x1b]0;title\x07[red]x[/red] \u202e " + "long " * 40
        await console.play([said(1, text=evil)])
        _, lines = await logs(console)
        await console.press("w", "enter")
        assert lines.wrap
        text = console.text()
        assert "\x1b" not in text
        assert "[red]x[/red]" in text
        assert sum("long" in line for line in console.lines()) >= 3  # wrapped


def fill(path: Path, first: int, last: int, mode: str = "w") -> None:
    with path.open(mode) as file:
        for n in range(first, last):
            level = "ERROR" if n == 31_000 else "INFO"
            moment = f"2025-12-25 10:{n // 1000 % 60:02d}:22"
            file.write(f"[{level}] {moment} x.py:1 - job 3 rank {n % 4}: line {n:07d}\n")


async def test_a_long_file_is_read_where_one_looks(opened: Opener, tmp_path: Path) -> None:
    """60,000 lines: the newest at once, the filter's first hits before it is through."""
    path = tmp_path / "engine.log"
    fill(path, 0, 60_000)
    async with opened(Stage(log_rate=0), size=(120, 40)) as console:
        page, lines = await logs(console)
        page.open_path(str(path))
        for _ in range(500):
            lines._turn()
            if lines.source.complete:
                break
        await console.settle()
        assert shown(console)[-1] == 59_999
        assert "60,000 lines" in console.text()
        assert isinstance(lines.source, FileSource)
        assert lines.source._cached.cache_info().currsize < 500
        await console.press("E")
        await worked(console, lines)
        record = lines.record()
        assert record is not None
        assert record.text == "line 0031000"
        await write(console, "F", "rank=2 text~^line.0059")
        for _ in range(2000):
            lines._turn()
            if len(lines.sieve) == 250:
                break
            await console.pilot.pause(0.002)
        assert len(lines.sieve) == 250
        await console.press("escape", "end")
        fill(path, 60_000, 60_010, "a")  # the file grows while it is followed
        lines._turn()
        await console.settle()
        assert shown(console)[-1] == 60_009
        page.open_path("")
        assert isinstance(lines.source, LiveSource)


async def test_a_file_that_is_not_there_is_told(opened: Opener, tmp_path: Path) -> None:
    async with opened(Stage(log_rate=0), size=(120, 40)) as console:
        page, lines = await logs(console)
        page.open_path(str(tmp_path / "none.log"))
        await console.settle()
        assert "none.log cannot be read" in console.text()  # the path takes what room there is
        assert isinstance(lines.source, LiveSource)


def test_rotated_parts_follow_each_other_and_growth_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    fill(tmp_path / "engine.log.2", 0, 10)
    fill(tmp_path / "engine.log.1", 10, 20)
    fill(path, 20, 30)
    source = FileSource(engine_log(path))
    while not source.complete:
        source.poll()
    assert source.span() == (0, 30)
    assert [record.text[-2:] for _, record in source.between(8, 22)] == [
        f"{n:02d}" for n in range(8, 22)
    ]
    path.rename(tmp_path / "engine.log.1")
    fill(path, 30, 35)
    for _ in range(4):
        source.poll()
    assert source.span() == (0, 35)
    assert source.record(34).text == "line 0000034"
    path.write_text("")  # cut: what was read is gone, numbers go on
    fill(path, 35, 36)
    for _ in range(4):
        source.poll()
    first, end = source.span()
    assert (first, source.record(end - 1).text) == (0, "line 0000035")
    source.close()


def test_bytes_of_any_kind_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"\xff\xfe\n" + b"a" * 200_000 + b"\nno end")
    source = FileSource([path])
    source.poll()
    assert source.span() == (0, 3)
    assert source.record(0).text == "\ufffd\ufffd"
    assert len(source.record(1).text) == 1 << 16
    assert source.record(2).text == "no end"
    source.close()


def test_a_quick_look_at_a_line_s_bytes_leaves_none_out_that_passes(tmp_path: Path) -> None:
    path = tmp_path / "any.log"
    line = "[INFO] 2025-12-25 10:30:22 job.py:4 - job 3 rank 1: "
    path.write_text(f"{line}a STEP taken\n{line}nothing\na \u017ftep\nSte\xe9p\n{line}steps\n")
    source = FileSource([path])
    source.poll()
    for query, passing in (("step", 3), ("step !taken", 2), ('"3 rank"', 0), ("level=info step", 2),
                           ("info", 0), ("\xe9", 1), ("rank>0", 3), ("!job=3", 2)):  # fmt: skip
        wanted = parse(query)
        slow = [number for number, record in source.between(0, 9) if wanted(record)]
        assert Sieve(source, wanted, glance=Glance(query)).sift(0, 9) == slow
        assert len(slow) == passing
