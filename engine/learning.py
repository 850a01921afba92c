"""What one job teaches the planner: its prediction before the launch, its peaks at the end."""

from __future__ import annotations

from statistics import median

from engine.bus import Bus
from engine.geometry import blocks_per_clip
from engine.placement.calibration import WARM_CLIPS
from engine.placement.history import History
from engine.preflight import Prepared
from engine.report_events import Progress


class Learning:
    """Keeps one job's lines of the history. A history that cannot be written is told, no more."""

    def __init__(self, history: History, bus: Bus, job: int) -> None:
        self._history, self._bus, self._job = history, bus, job

    def launched(self, prepared: Prepared) -> None:
        """Store the prediction. Blocks; call it in a thread, before ranks start."""
        seen = prepared.forecast
        try:
            self._history.predicted(
                self._job, prepared.plan, size=(seen.width, seen.height), clips=seen.clips
            )
        except OSError as error:
            self._bus.log("WARNING", f"the prediction is not kept: {error}", self._job)

    def done(self, prepared: Prepared, progress: Progress) -> None:
        """Store what a whole job measured, and tell both. Blocks."""
        ranks = [
            {"rank": number, "peak_bytes": tally.peak_bytes or None, "by_owner": tally.by_owner}
            for number, tally in enumerate(progress.ranks)
        ]
        try:
            self._history.measured(self._job, ranks, _seconds_per_block(prepared, progress))
        except OSError as error:
            self._bus.log("WARNING", f"the measured peaks are not kept: {error}", self._job)
        for device, tally in zip(prepared.plan.devices, progress.ranks, strict=True):
            if tally.peak_bytes and device.predicted_bytes:
                # The plan's error, as in ``calibration``: below 0 where it said too little.
                off = device.predicted_bytes / tally.peak_bytes - 1
                text = (
                    f"peak {tally.peak_bytes / 2**30:.2f} GiB, predicted "
                    f"{device.predicted_bytes / 2**30:.2f} GiB ({off:+.1%})"
                )
                self._bus.log("INFO", text, self._job, device.rank)


def _seconds_per_block(prepared: Prepared, progress: Progress) -> float | None:
    """Of the steady state: clips after the second, of two the second; None where it made one."""
    made = [r.result["clips"] for r in progress.ranks if r.result and r.result["clips"]]
    seconds = [float(clip["seconds"]) for clips in made[:1] for clip in clips]
    steady = seconds[WARM_CLIPS:] or seconds[1:]
    return median(steady) / blocks_per_clip(prepared.request.infer_frames) if steady else None
