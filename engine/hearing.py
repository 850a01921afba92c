"""What is heard of a job's ranks and of its finished clips → events, log lines, the row."""

from __future__ import annotations

from pathlib import Path

from engine.bus import Bus
from engine.committer import Committer
from engine.jobs.paths import JobPlaces
from engine.messages import ClipCommitted, LogLine
from engine.nightwatch.words import quality_raised
from engine.ranks.outcome import RankExit, RankLog
from engine.ranks.protocol import Report
from engine.report_events import Clip, Progress
from engine.rowkeeper import RowKeeper


class Hearing:
    """One job's. Everything is called on the engine's loop and returns at once."""

    def __init__(
        self,
        bus: Bus,
        places: JobPlaces,
        progress: Progress,
        ledger: RowKeeper,
        committer: Committer,
    ) -> None:
        self._bus, self._progress, self._ledger = bus, progress, ledger
        self._committer, self._places = committer, places

    def report(self, report: Report) -> None:
        """A rank says something."""
        try:
            if report.kind == "clip":
                self._committer.put(Progress.clip_of(report))
            for event in self._progress.apply(report):
                self._bus.publish(event)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            text = f"a {report.kind} report could not be read: {type(error).__name__}: {error}"
            self._bus.log("WARNING", text, self._progress.row.id, report.rank)
        self._ledger.touch()

    def line(self, log: RankLog) -> None:
        """A rank has written to its output."""
        self._bus.publish(
            LogLine(
                t=log.t,
                level="WARNING" if log.stream == "channel" else "INFO",
                source="rank",
                text=log.text,
                job=self._progress.row.id,
                rank=log.rank,
                stream=log.stream,
            )
        )

    def exit(self, ended: RankExit) -> None:
        """A rank has ended."""
        phase = "ended" if ended.finished and ended.code == 0 else "died"
        self._progress.ranks[ended.rank].phase = phase
        words = None if phase == "ended" else ended.describe()
        code = ended.code if ended.signal is None else -ended.signal
        self._bus.publish(
            self._progress.rank_event(ended.rank, ended.t, exit_code=code, reason=words)
        )
        if phase == "died" and ended.before_signal:
            text = f"rank {ended.rank} (process {ended.pid}) {words}"
            self._bus.log("ERROR", text, self._progress.row.id, ended.rank)

    def committed(self, clip: Clip, path: Path) -> None:
        """A clip is on disk."""
        progress, job = self._progress, self._progress.row.id
        progress.committed(clip)
        progress.change(manifest=str(self._places.manifest))
        self._ledger.touch(now=True)
        text = f"clip {clip.clip} committed: {clip.frames} frames at {clip.fps:.3g} fps"
        self._bus.log("INFO", text, job)
        self._bus.publish(
            ClipCommitted(
                job=job,
                clip=clip.clip,
                frames=clip.frames,
                seconds=clip.seconds,
                fps=clip.fps,
                path=str(path),
            )
        )
        for finding in clip.check:
            level = "ERROR" if finding.get("level") == "error" else "WARNING"
            text = f"clip {clip.clip}: {finding.get('text', finding)}"
            self._bus.log(level, text, job)
        for event in quality_raised(job, f"clip {clip.clip}", clip.check):
            self._bus.publish(event)
