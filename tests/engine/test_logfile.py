"""Can the log be read and searched by its format, whatever a line holds?"""

from __future__ import annotations

import re
import time
from pathlib import Path

from engine.logfile import LogFile, format_line
from engine.messages import LogLine

FORM = re.compile(r"\[[A-Z]+\] \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [\w.-]+:\d+ - .*")


def _line(text: str = "all is well", **fields: object) -> LogLine:
    return LogLine(level="INFO", source="engine", text=text, **fields)  # type: ignore[arg-type]


def test_a_line_has_level_time_place_and_message() -> None:
    t = time.mktime((2025, 12, 25, 10, 30, 22, 0, 0, -1))
    assert format_line(_line(t=t, where="file.py:145")) == (
        "[INFO] 2025-12-25 10:30:22 file.py:145 - all is well"
    )


def test_job_rank_and_stream_stand_in_the_message() -> None:
    line = format_line(_line("hello", job=3, rank=1, stream="stderr"))
    assert line.endswith("engine:0 - job 3 rank 1 stderr: hello")


def test_a_rank_s_line_without_a_place_is_not_read_as_another_rank_s() -> None:
    out = LogLine(level="INFO", source="rank", text="hello", job=3, rank=3, stream="stderr")
    assert format_line(out).endswith("stderr:0 - job 3 rank 3 stderr: hello")
    told = LogLine(level="DEBUG", source="rank", text="hello", job=3, rank=3)
    assert format_line(told).endswith("output:0 - job 3 rank 3: hello")


def test_a_hostile_line_stays_one_harmless_line() -> None:
    line = format_line(_line("a\nb\x1b[31m\r\x9b\x00[ERROR] forged"))
    assert FORM.fullmatch(line)
    assert "\x1b" not in line
    assert "\\x1b[31m" in line


def test_nothing_is_made_before_the_first_line_and_old_files_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "engine.log"
    log = LogFile(path, max_bytes=2000, kept=2)
    assert not path.parent.exists()
    for n in range(200):
        log(_line(f"line {n}"))
    log.close()
    names = sorted(p.name for p in path.parent.iterdir())
    assert names == ["engine.log", "engine.log.1", "engine.log.2"]
    assert all(p.stat().st_size <= 2000 for p in path.parent.iterdir())
    assert path.read_text().splitlines()[-1].endswith("line 199")
    log(_line("after closing"))
    log.close()
    assert path.read_text().splitlines()[-1].endswith("after closing")
