"""Is every launch's prediction kept before it, and its measurement after it?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from engine.bus import Bus
from engine.geometry import forecast
from engine.learning import Learning
from engine.parameters.request import Request
from engine.placement.history import History
from engine.preflight import Prepared
from engine.report_events import Progress
from engine.telemetry.capability import capabilities
from tests.engine.plans import plan, row


class Heard:
    """A bus that keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def log(self, level: str, text: str, *_: Any) -> None:
        self.lines.append((level, text))


def prepared() -> Prepared:
    seen = forecast(
        size="256*256", image_wh=(512, 512), audio_samples=16_000 * 20, num_clip=4, infer_frames=48
    )
    made = plan(2)
    devices = tuple(
        dataclasses.replace(d, predicted_bytes=500 << 20, modelled={"context": 500 << 20})
        for d in made.devices
    )
    return Prepared(
        Request(), cast("Any", None), dataclasses.replace(made, devices=devices), seen, ()
    )


def finished(of: Prepared) -> Progress:
    progress = Progress(row(), of.plan, of.blocks)
    for tally in progress.ranks:
        tally.peak_bytes = 550 << 20
        tally.by_owner = {"context": 300 << 20}
    clips = [{"clip": n, "seconds": 8.0 if n < 2 else 4.0, "fps": 6.0} for n in range(4)]
    progress.ranks[-1].result = {"clips": clips}
    return progress


def test_is_the_prediction_kept_first_and_both_told(tmp_path: Path) -> None:
    heard, history, job = Heard(), History(tmp_path / "h.jsonl"), prepared()
    learning = Learning(history, cast("Bus", heard), 3)
    learning.launched(job)
    (run,) = history.runs()
    assert run.job == 3
    assert run.ranks[0].peak is None
    learning.done(job, finished(job))
    (run,) = history.runs()
    assert [rank.peak for rank in run.ranks] == [550 << 20] * 2
    assert run.seconds_per_block == 1.0  # of the clips after the second, four blocks each
    for number, (clips, seconds) in enumerate([(2, 2.0), (1, None)], start=4):
        short = finished(job)
        cast("dict[str, Any]", short.ranks[-1].result)["clips"] = [
            {"clip": n, "seconds": 12.0 - 4 * n, "fps": 6.0} for n in range(clips)
        ]
        learning = Learning(history, cast("Bus", Heard()), number)
        learning.launched(job)
        learning.done(job, short)
        assert history.runs()[-1].seconds_per_block == seconds  # the first clip starts things up
    assert heard.lines[0] == ("INFO", "peak 0.54 GiB, predicted 0.49 GiB (-9.1%)")


def test_does_a_history_that_cannot_be_written_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    heard, job = Heard(), prepared()
    learning = Learning(History(tmp_path / "state" / "h.jsonl"), cast("Bus", heard), 3)
    learning.launched(job)
    learning.done(job, finished(job))
    assert [level for level, _ in heard.lines] == ["WARNING", "WARNING", "INFO", "INFO"]
    assert not History(tmp_path / "state" / "h.jsonl").runs()


def test_are_capabilities_left_out_where_nothing_tells() -> None:
    assert capabilities(["GPU-00000000-0000-0000-0000-000000000000"]) == {}
