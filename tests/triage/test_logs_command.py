"""Can somebody find a line by when, where, whose and what it means?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from console.cli import avatop
from engine.messages import EngineStarted, JobChanged, JobRow, LogLine
from engine.telemetry.recorder import Recorder

LINES = [
    "[INFO] 2025-12-25 10:30:20 run.py:1 - job 3 rank 0 stdout: loading",
    "[WARNING] 2025-12-25 10:30:21 mem.py:7 - job 3 rank 2 stderr: slow step of block 7",
    "[ERROR] 2025-12-25 10:30:22 rank.py:145 - job 3 rank 2 stderr: torch.OutOfMemoryError: CUDA "
    "out of memory. Tried to allocate 4.17 GiB. GPU 2 has a total capacity of 22.15 GiB",
    "a line of no format \x1b[31m[bold]",
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "a.log"
    file.write_text("\n".join(LINES) + "\n")
    return file


def found(*words: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(avatop, ["logs", "--json", *words])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ((), [1, 2, 3, 4]),
        (("level>=warning",), [2, 3]),
        (("rank=2", "text~slow"), [2]),
        (("class=cuda_oom",), [3]),
        (("!class=cuda_oom", "job=3"), [1, 2]),
        (("since=2025-12-25T10:30:22",), [3]),
        (("until=2025-12-25T10:30:20",), [1]),
        (("format",), [4]),
        (("where~rank",), [3]),
    ],
)
def test_any_programs_log(query: tuple[str, ...], lines: list[int], log: Path) -> None:
    assert [row["line"] for row in found("--from-file", str(log), *query)] == lines


def test_the_last_ones_only(log: Path) -> None:
    assert [row["line"] for row in found("--from-file", str(log), "-n", "2")] == [3, 4]


def test_a_recording_knows_host_and_version(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "rec", version="1")
    row = JobRow(3, "running", "tpp", "704*384", 0, 4, version="v1.1")
    recorder(EngineStarted(host="gpu07", pid=1, version="1", device_source="host"))
    recorder(JobChanged(job=row))
    recorder(LogLine(level="ERROR", source="rank", text="lost", job=3, rank=1))
    recorder(LogLine(level="INFO", source="engine", text="hello"))
    recorder.close()
    rows = found("--from-file", str(tmp_path / "rec"), "version=v1.1", "node=gpu07")
    assert [(r["text"], r["rank"]) for r in rows] == [("lost", 1)]


def test_untrusted_text_stays_text(log: Path) -> None:
    done = CliRunner().invoke(avatop, ["logs", "--from-file", str(log), "format"])
    assert "\x1b" not in done.output
    assert "[bold]" in done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("levle=x",), "did you mean level?"),
        (("since=soon",), "is no moment"),
        (("--from-file", "/no/such"), "No such file"),
        (("-f", "--from-file", "x"), "avatop triage --follow"),
    ],
)
def test_what_cannot_be_read_says_why(words: tuple[str, ...], says: str) -> None:
    done = CliRunner().invoke(avatop, ["logs", *words])
    assert done.exit_code == 2
    assert says in done.output
