"""What is known of a stuck group, kept on disk before its ranks are ended.

A folder per incident below the state folder: the Python stacks of each rank, NCCL's flight
recorder where there is one, and ``incident.json`` with the reason and what was asked of whom.
Nothing of it is removed with the job.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from engine.guard.stacks import Asked
from engine.sentence import sentence

#: Collectives that NCCL's flight recorder remembers per rank.
RECORDED_COLLECTIVES: Final = "2000"
_DUMP: Final = "nccl_trace_rank_"


@dataclass(frozen=True)
class Kept:
    """Where an incident lies and what is in it."""

    folder: Path
    stacks: tuple[int, ...]  # ranks whose stacks were heard
    dumps: tuple[str, ...]  # files of NCCL's flight recorder

    @property
    def sentence(self) -> str:
        """For the log: where, and what."""
        ranks = ", ".join(map(str, self.stacks)) or "none"
        if not self.dumps:
            return sentence(
                "{folder}: Python stacks of ranks {ranks}", folder=self.folder, ranks=ranks
            )
        return sentence(
            "{folder}: Python stacks of ranks {ranks} and {dumps} dumps of NCCL's flight recorder",
            folder=self.folder,
            ranks=ranks,
            dumps=len(self.dumps),
        )


class IncidentFolder:
    """The folder of one job's attempt; made when there is something to put into it.

    Args:
        root: the incidents' folder of a state folder.
        job, attempt: whose it is.
    """

    def __init__(self, root: Path, job: int, attempt: int) -> None:
        self.path = root / f"job-{job:06d}-{attempt}"

    def environment(self) -> dict[str, str]:
        """Variables that make NCCL's recorder run and write here.

        ``TORCH_NCCL_DEBUG_INFO_PIPE_FILE`` lets the dump be asked for before the timeout; names
        are torch's own (its flight recorder tutorial).
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        prefix = str(self.path / _DUMP)
        return {
            "TORCH_FR_BUFFER_SIZE": RECORDED_COLLECTIVES,
            "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
            "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": prefix,
            "TORCH_FR_DUMP_TEMP_FILE": prefix,
            "TORCH_NCCL_DEBUG_INFO_PIPE_FILE": str(self.path / "ask-rank"),
        }

    def ask_for_dumps(self, ranks: Iterable[int]) -> list[int]:
        """Poke each rank's recorder; the ranks that listen. Never blocks."""
        asked = []
        for rank in ranks:
            with contextlib.suppress(OSError):
                fd = os.open(self.path / f"ask-rank{rank}.pipe", os.O_WRONLY | os.O_NONBLOCK)
                try:
                    os.write(fd, b"1\n")
                    asked.append(rank)
                finally:
                    os.close(fd)
        return asked

    def dumps(self) -> tuple[str, ...]:
        """Files that the recorder has written so far."""
        if not self.path.is_dir():
            return ()
        return tuple(sorted(p.name for p in self.path.glob(f"{_DUMP}*") if p.is_file()))

    def keep(
        self,
        reason: str,
        stacks: Mapping[int, Sequence[str]],
        asked: Mapping[int, Asked],
        facts: Mapping[str, Any],
    ) -> Kept:
        """Write what was heard. Blocks.

        Raises:
            OSError: the folder cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        heard = {rank: lines for rank, lines in stacks.items() if lines}
        for rank, lines in heard.items():
            path = self.path / f"stacks-rank{rank}.txt"
            path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
        body = {
            "t": time.time(),
            "reason": reason,
            "ranks": {str(rank): asdict(answer) for rank, answer in asked.items()},
            "stacks_of": sorted(heard),
            **facts,
        }
        (self.path / "incident.json").write_text(
            json.dumps(body, ensure_ascii=False, indent=1), encoding="utf-8"
        )
        return Kept(self.path, tuple(sorted(heard)), self.dumps())

    def tidy(self) -> tuple[str, ...]:
        """At a job's end: remove the pipes, and the folder if nothing was kept. Blocks.

        Returns the recorder's files, which may have come by themselves (a collective's timeout).
        """
        for pipe in self.path.glob("ask-rank*.pipe"):
            pipe.unlink(missing_ok=True)
        left = self.dumps()
        if self.path.is_dir() and not any(self.path.iterdir()):
            shutil.rmtree(self.path, ignore_errors=True)
        return left
