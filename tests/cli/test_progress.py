"""Does one see what a job does, in a terminal and in a log file?"""

from __future__ import annotations

import io
from typing import Any

from console.progress import ProgressView
from engine.messages import BlockDone, ClipCommitted, JobChanged, LogLine, PlanMade, Unshards
from engine.messages import UnshardRecord as Record
from tests.engine.plans import plan, row


def _drive(view: ProgressView) -> None:
    def changed(**fields: Any) -> None:
        view.show(JobChanged(job=row(**fields)))

    changed(state="queued")
    view.show(PlanMade(job=1, plan=plan().to_dict()))
    view.show(PlanMade(job=1, plan=plan().to_dict()))
    changed(state="running")
    view.show(Unshards(job=1, rank=0, records=(Record("root", 9, None, 0.0, 0.1),) * 1200))
    view.show(LogLine(level="INFO", source="rank", text="quiet"))
    view.show(LogLine(level="WARNING", source="rank", text="odd \x1b[2J line"))
    view.show(BlockDone(job=1, clip=0, block=3, seconds=1.0))
    changed(state="running", clip=1, fps=22.5, peak_bytes=3 << 30, spikes=1, eta_seconds=75.0)
    view.show(ClipCommitted(job=1, clip=0, frames=45, seconds=2.0, fps=22.5, path="x"))
    changed(state="done", clip=2)
    view.finish()


def test_a_log_file_gets_one_plain_line_per_change() -> None:
    stream = io.StringIO()
    _drive(ProgressView(stream, rewrite=False))
    text = stream.getvalue()
    assert "\r" not in text
    assert "\x1b" not in text
    assert "quiet" not in text
    lines = text.splitlines()
    assert sum(line.startswith("plan: fsdp on cpu, cpu") for line in lines) == 1
    (clip,) = [line for line in lines if "clip 1/2" in line]
    for part in (
        "job 1",
        "running",
        "block 4",
        "22.5 fps",
        "1:15 left",
        "peak 3",
        "1,200 unshards",
    ):
        assert part in clip
    assert "1 spike" in clip
    assert lines[-1].startswith("job 1  done  clip 2/2")


def test_a_terminal_gets_one_line_that_is_drawn_over_and_taken_away() -> None:
    stream = io.StringIO()
    _drive(ProgressView(stream, rewrite=True))
    text = stream.getvalue()
    whole = [line for line in text.split("\n") if line]
    assert any(line.endswith("warning: odd \u241b[2J line") for line in whole)
    assert text.count("\r\x1b[K") > 3
    assert text.endswith("\r\x1b[K")  # nothing stays behind
    assert all(len(part) < 80 for part in text.replace("\n", "").split("\r\x1b[K"))
