"""The engine's log on disk: ``[LEVEL] 2025-12-25 10:30:22 file.py:145 - message``, rotated."""

from __future__ import annotations

import logging
import logging.handlers
import time
from pathlib import Path
from typing import Final

from engine.messages import Event, LogLine

MAX_BYTES: Final = 8 << 20
KEPT_FILES: Final = 5

# C0 and C1 controls of a line from outside would break the one-line format or a terminal.
_CONTROLS: Final = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if n != 9}


def place_of(source: str, stream: str | None) -> str:
    """What stands for file and line where a line tells none: ``stderr:0``, ``engine:0``.

    Never ``rank:0``, which reads as a rank's number.
    """
    return f"{stream or 'output'}:0" if source == "rank" else f"{source}:0"


def format_line(line: LogLine) -> str:
    """One line of the log, local time, without its newline; control characters are escaped."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.t))
    about = "" if line.job is None else f"job {line.job} "
    if line.rank is not None:
        about += f"rank {line.rank} "
    if line.stream is not None:
        about += f"{line.stream} "
    prefix = f"{about.rstrip()}: " if about else ""
    where = line.where or place_of(line.source, line.stream)
    return f"[{line.level}] {stamp} {where} - {prefix}{line.text}".translate(_CONTROLS)


class LogFile:
    """A listener of events that keeps every ``LogLine`` on disk.

    The file is opened with the first line. Several processes may append to it; each line is
    one write.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, kept: int = KEPT_FILES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._handler: logging.handlers.RotatingFileHandler | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, LogLine):
            self.write(event)

    def write(self, line: LogLine) -> None:
        """Append one line.

        Raises:
            OSError: the folder or the file cannot be written.
        """
        if self._handler is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handler = logging.handlers.RotatingFileHandler(
                self.path, maxBytes=self._max_bytes, backupCount=self._kept, encoding="utf-8"
            )
        handler = self._handler
        record = logging.LogRecord("avatop", 0, "", 0, format_line(line), None, None)
        if handler.shouldRollover(record):
            handler.doRollover()
        if handler.stream is None:
            handler.stream = handler._open()
        handler.stream.write(record.msg + handler.terminator)
        handler.stream.flush()

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        if self._handler is not None:
            self._handler.close()
            self._handler = None
