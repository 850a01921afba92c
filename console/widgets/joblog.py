"""The log of one job: what the console has heard of it, else what the engine's log file has."""

from __future__ import annotations

import bisect
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from textual.strip import Strip

from console.i18n import t
from console.parts import LogEntry
from console.state import Model
from console.widgets.bars import heading
from console.widgets.jobdetails import job_folder
from console.widgets.logs import Logs
from console.widgets.paint import Paint
from engine.messages import LOG_LEVELS, JobRow

#: Bytes read from the end of the file, for jobs that ended before the console came.
TAIL: Final = 256 << 10
_LINE: Final = re.compile(r"\[(\w+)\] (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (\S+) - (.*)")


def tail_of(file: Path, job: int, size: int = TAIL) -> list[LogEntry]:
    """A job's lines at the end of the engine's log, numbered from 1; empty if it is not there."""
    try:
        with file.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(stream.tell() - size, 0))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    entries: list[LogEntry] = []
    about = re.compile(rf"job {job}( rank \d+)?( std(?:out|err))?: (.*)")
    for line in text.splitlines():
        if f" - job {job}" not in line or (match := _LINE.fullmatch(line)) is None:
            continue
        said = about.fullmatch(match[4])
        if said is None:
            continue
        level = match[1] if match[1] in LOG_LEVELS else "INFO"
        moment = time.mktime(time.strptime(match[2], "%Y-%m-%d %H:%M:%S"))
        source = said[1].strip() if said[1] else "engine"
        entries.append(LogEntry(len(entries) + 1, moment, level, source, said[3], match[3], job))
    return entries


class JobLog(Logs):
    """The log pane for the job under the cursor."""

    def __init__(
        self, model: Model, paint: Paint, chosen: Callable[[], JobRow | None], *, id: str  # noqa: A002
    ) -> None:  # fmt: skip
        super().__init__(model, paint, id=id)
        self.chosen = chosen
        self._of: int | None = None
        self._file: list[LogEntry] = []

    def rows(self) -> list[LogEntry]:
        job = self.chosen()
        number = None if job is None else job.id
        if number != self._of:
            self._of = number
            self.forget()
            self.following, self.current = True, None
            self._file = []
            if job and not any(entry.job == number for entry in self.model.logs):
                file = self._log_of(job)
                self._file = [] if file is None else tail_of(file, job.id)
        return super().rows() or [entry for entry in self._file if self._passes(entry)]

    def _log_of(self, job: JobRow) -> Path | None:
        """The engine's log beside the job's folder; of a job that left none, where it lies now."""
        if self.console_app.replay is not None:
            return None  # its jobs may be another host's
        folder = job_folder(job)
        return (
            self.console_app.engine_log if folder is None else folder.parent.parent / "engine.log"
        )

    def _index(self, number: int) -> int:
        rows = self._rows or [entry for entry in self._file if self._passes(entry)]
        return bisect.bisect_right(rows, number, key=lambda entry: entry.number)

    def _passes(self, entry: LogEntry) -> bool:
        return entry.job == self._of and super()._passes(entry)

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        lines = list(super().draw(width, height))
        end, count = self._end(), len(self.rows())
        title = t("Log") if self._of is None else t("Log of job {id}", id=self._of)
        lines[0] = heading(self.paint, title, width, self.has_focus, self._note(count - end))
        return lines
