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
from engine.sentence import sentence


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
        phase, words = self._end_of(ended)
        self._progress.ranks[ended.rank].phase = phase
        code = ended.code if ended.signal is None else -ended.signal
        self._bus.publish(
            self._progress.rank_event(ended.rank, ended.t, exit_code=code, reason=words)
        )
        if ended.before_signal and not ended.good:
            text = f"rank {ended.rank} (process {ended.pid}) {ended.describe()}"
            self._bus.log("ERROR", text, self._progress.row.id, ended.rank)

    def _end_of(self, ended: RankExit) -> tuple[str, str | None]:
        """Phase and reason: only a rank that went down of itself "died", not who went with it."""
        if ended.good:
            return "ended", None
        if ended.because is not None:
            return "ended", sentence("ended: {reason}", reason=ended.because)
        failures = self._progress.failures
        own = next((f for f in failures if f.rank == ended.rank), None)
        echo = own is not None and own.kind == "comm"
        first = next((f.rank for f in failures if f.kind != "comm"), None)
        if first is None:
            dead = (n for n, tally in enumerate(self._progress.ranks) if tally.phase == "died")
            first = next(dead, None)
        if first not in (None, ended.rank) and (echo or (own is None and not ended.before_signal)):
            return "ended", sentence("ended: rank {rank} had failed", rank=first)
        if own is None:
            return "died", ended.describe()
        return "died", sentence("failed ({kind}): {message}", kind=own.kind, message=own.message)

    def committed(self, clip: Clip, path: Path) -> None:
        """A clip is on disk."""
        progress, job = self._progress, self._progress.row.id
        progress.committed(clip)
        progress.change(manifest=str(self._places.manifest))
        self._ledger.touch(now=True)
        told = f"clip {clip.clip + 1}"  # told from 1, as a person counts; in data from 0
        text = f"{told} committed: {clip.frames} frames at {clip.fps:.3g} fps"
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
            text = f"{told}: {finding.get('text', finding)}"
            self._bus.log(level, text, job)
        for event in quality_raised(job, told, clip.check):
            self._bus.publish(event)
