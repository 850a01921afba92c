"""Progress of one job without a screen: one rewritten line on a terminal, plain lines elsewhere.

Everything goes to stderr, so that stdout stays free for ``--json``.
"""

from __future__ import annotations

import shutil
from typing import Final, TextIO

from rich.cells import set_cell_size

from console import format as fmt
from console.i18n import n, t
from console.spoken import spoken
from engine.messages import (
    BlockDone,
    ClipCommitted,
    Event,
    JobChanged,
    JobRow,
    LogLine,
    PlanMade,
    RankChanged,
    Unshards,
)

_TOLD: Final = frozenset({"WARNING", "ERROR", "CRITICAL"})
_CLEAR: Final = "\r\x1b[K"
MIB: Final = 1 << 20


def memory(count: int | None) -> str:
    """Bytes with a unit that leaves a readable figure."""
    if count is None:
        return fmt.NA
    if count < fmt.GIB:
        return f"{fmt.significant(count / MIB)} MiB"
    return f"{fmt.gib(count)} GiB"


class ProgressView:
    """Draws the events of one job. Not thread safe: feed it from one thread."""

    def __init__(self, stream: TextIO, rewrite: bool, blocks: int | None = None) -> None:
        """``rewrite`` is for terminals: one line that is drawn over."""
        self._stream = stream
        self._rewrite = rewrite
        self._blocks = blocks
        self._row: JobRow | None = None
        self._block: int | None = None
        self._unshards = 0
        self._state = ""
        self._drawn = False
        self._told_plan = ""

    def show(self, event: Event) -> None:
        """Take one event in and draw what changed."""
        match event:
            case LogLine(level=level) if level in _TOLD:
                self._line(f"{level.lower()}: {fmt.inert(event.text)}")
            case PlanMade():
                self._plan(event)
            case JobChanged():
                self._changed(event.job)
            case BlockDone():
                self._block = event.block
                self._draw()
            case Unshards():
                self._unshards += len(event.records)
            case ClipCommitted():
                if not self._rewrite:
                    self._line(self._summary())
            case RankChanged(phase="died"):
                why = spoken(event.reason or "") or t("no reason known")
                self._line(t("rank {rank} died: {why}", rank=event.rank, why=why))
            case _:
                pass

    def finish(self) -> None:
        """Take the rewritten line away."""
        if self._drawn:
            self._stream.write(_CLEAR)
            self._stream.flush()
            self._drawn = False

    def _plan(self, event: PlanMade) -> None:
        devices = event.plan["devices"]
        where = ", ".join(str(d["device"]) for d in devices)
        peak = max((d["predicted_bytes"] for d in devices), default=0)
        mode = event.plan["mode"]
        line = (
            t("plan: {mode} on {where}, at most {peak} each", mode=mode, where=where,
              peak=memory(peak))
            if peak
            else t("plan: {mode} on {where}", mode=mode, where=where)
        )  # fmt: skip
        if line != self._told_plan:  # it is made again when the job's turn comes
            self._told_plan = line
            self._line(line)

    def _changed(self, row: JobRow) -> None:
        self._row = row
        if row.state != self._state:
            self._state = row.state
            if not self._rewrite:
                self._line(self._summary())
        self._draw()

    def _summary(self) -> str:
        row = self._row
        if row is None:
            return ""
        clip = fmt.fraction(row.clip, row.clips)
        parts = [t("job {id}", id=row.id), fmt.word(row.state), t("clip {clip}", clip=clip)]
        if self._block is not None:
            total = "" if self._blocks is None else f"/{self._blocks}"
            parts.append(t("block {block}", block=f"{self._block + 1}{total}"))
        if row.fps is not None:
            parts.append(f"{fmt.significant(row.fps)} fps")
        if row.eta_seconds is not None and row.state == "running":
            parts.append(t("{time} left", time=fmt.duration(row.eta_seconds)))
        if row.peak_bytes:
            parts.append(t("peak {memory}", memory=memory(row.peak_bytes)))
        if self._unshards:
            parts.append(n("{count} unshard", "{count} unshards", self._unshards))
        if row.spikes:
            parts.append(n("{count} spike", "{count} spikes", row.spikes))
        return "  ".join(parts)

    def _line(self, text: str) -> None:
        if not text:
            return
        self._stream.write((_CLEAR if self._drawn else "") + text + "\n")
        self._drawn = False
        self._stream.flush()

    def _draw(self) -> None:
        if not self._rewrite:
            return
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(_CLEAR + set_cell_size(self._summary(), width).rstrip())
        self._stream.flush()
        self._drawn = True
