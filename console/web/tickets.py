"""Tickets: what a person holds instead of a job's number, kept over restarts."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from console.web.uploads import is_ticket


class Tickets:
    """Ticket → job, one JSON line each. Any thread."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._jobs: dict[str, int] = {}
        if file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    ticket, job = json.loads(line)
                except (ValueError, TypeError):
                    continue  # torn by a crash: the ticket was never handed out
                self._jobs[str(ticket)] = int(job)

    def add(self, ticket: str, job: int) -> None:
        """Remember a ticket before it is handed out."""
        with self._lock, self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([ticket, job]) + "\n")
            self._jobs[ticket] = job

    def job(self, ticket: str) -> int | None:
        """The job behind a ticket."""
        return self._jobs.get(ticket) if is_ticket(ticket) else None
