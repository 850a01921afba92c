"""What was measured of a job, folded from its events, for advice when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

from engine.geometry import DEFAULT_FPS
from engine.messages import BlockDone, FindingRaised, JobRow, LedgerUpdated, Remedy, StepDone
from engine.nightwatch.words import altered
from engine.sentence import sentence
from engine.triage.advice import Advice, Measured, advise

#: More than this at a job's end is no advice but a lecture.
_MOST: Final = 4
#: How a figure is told, by the end of its name: scale and unit.
_UNITS: Final = {
    "bytes": (1 / (1 << 30), "GiB"), "seconds": (1.0, "s"), "share": (100.0, "%"),
    "fps": (1.0, "fps"), "speedup": (1.0, "times"),
}  # fmt: skip
#: Figures of advice (engine/triage/advice.py) by their names.
_FIGURES: Final = {
    "block_seconds": sentence("block seconds"),
    "bytes": sentence("bytes"),
    "decode_seconds": sentence("decode seconds"),
    "fps": "fps",
    "mean_seconds": sentence("mean seconds"),
    "now_bytes": sentence("now bytes"),
    "now_seconds": sentence("now seconds"),
    "seconds": sentence("seconds"),
    "share": sentence("share"),
    "slowest_seconds": sentence("slowest seconds"),
    "speedup": sentence("speedup"),
    "usable_bytes": sentence("usable bytes"),
}
#: What a remedy does, by its action; why is the finding's cause.
_DEEDS: Final = {
    "env": sentence("Relaunch the job with this in its ranks' environment."),
    "reap": sentence("Look at the processes that hold it."),
    "relaunch": sentence("Relaunch the job with this change."),
}


@dataclass
class Figures:
    """One job's figures; what was not heard of stays unknown."""

    row: JobRow | None = None
    plan: dict[str, Any] | None = None
    _peaks: dict[int, int] = field(default_factory=dict)
    _owners: dict[int, dict[str, int]] = field(default_factory=dict)
    _usable: dict[int, int | None] = field(default_factory=dict)
    _steps: dict[int, list[float]] = field(default_factory=dict)
    _done: set[tuple[int, int]] = field(default_factory=set)  # (block, step), whole or in parts
    _blocks: list[float] = field(default_factory=list)
    _decodes: list[float] = field(default_factory=list)

    def ledger(self, event: LedgerUpdated) -> None:
        rank = event.rank
        self._peaks[rank] = max(self._peaks.get(rank, 0), event.peak)
        owners = self._owners.setdefault(rank, {})
        for owner, peak in event.peak_by_owner.items():
            if owner != "slack" or event.device != "cpu":  # there, no setting gives it back
                owners[owner] = max(owners.get(owner, 0), peak)
        self._usable[rank] = event.capacity

    def step(self, event: StepDone) -> None:
        self._steps.setdefault(event.rank, []).append(event.seconds)
        self._done.add((event.block, event.step))

    def block(self, event: BlockDone) -> None:
        self._blocks.append(event.seconds)
        if event.decode_seconds is not None:
            self._decodes.append(event.decode_seconds)

    def measured(self) -> Measured:
        """The figures as advice takes them."""
        row, ranks = self.row, range(max([*self._peaks, *self._steps, -1]) + 1)
        blocks = len(self._blocks)
        # A rank's time for a block: all its steps, over the blocks that were made.
        stages = [sum(self._steps.get(r, ())) / blocks if blocks else 0.0 for r in ranks]
        decode = fmean(self._decodes) if self._decodes else None
        vae = (self.plan or {}).get("vae_rank")
        if isinstance(vae, int) and vae in ranks and stages[vae] > 0:  # it denoises and decodes
            stages = [s + (decode or 0.0) * (r == vae) for r, s in enumerate(stages)]
            if decode is None:
                stages = []  # nobody knows which is the slowest
        worked = sum(sum(told) for told in self._steps.values())
        return Measured(
            plan=self.plan,
            mode=None if row is None else row.mode,
            size=None if row is None else row.size,
            steps=None if row is None else row.steps,
            fps=None if row is None else row.fps,
            target_fps=float(DEFAULT_FPS),
            usable_bytes=[self._usable.get(r) for r in ranks],
            peaks=[self._peaks.get(r) for r in ranks],
            by_owner=[self._owners.get(r, {}) for r in ranks],
            stage_seconds=stages if len(stages) > 1 else (),
            step_seconds=worked / len(self._done) if self._done else None,
            seconds_per_block=fmean(self._blocks) if self._blocks else None,
            decode_seconds=decode,
        )

    def advice(self, job: int) -> Iterator[FindingRaised]:
        """What would make this job faster, better or smaller, with the figures."""
        for number, advice in enumerate(advise(self.measured())[:_MOST]):
            yield FindingRaised(
                id=f"job{job}-advice-{number}",
                finding=f"advice_{advice.goal}",
                severity="advice",
                cause=advice.text,
                role="advice",
                job=job,
                evidence=tuple(_told(name, value) for name, value in advice.figures.items()),
                remedies=(_remedy(advice),),
            )


def _told(name: str, value: float) -> str:
    """A figure as a person reads it."""
    scale, unit = _UNITS.get(name.rpartition("_")[2], (1.0, ""))
    figure = f"{value * scale:.3g} {unit}".rstrip()
    if unit == "times":
        figure = sentence("{figure} times", figure=f"{value:.3g}")
    return sentence("{what}: {why}", what=_FIGURES.get(name, name.replace("_", " ")), why=figure)


def _remedy(advice: Advice) -> Remedy:
    change = dict(advice.change)
    if "env" in change:
        return Remedy("advice", _DEEDS["env"], "env", dict(change["env"]))
    if "kill_holder" in change:
        return Remedy("advice", _DEEDS["reap"], "reap", {})
    if change.get("cut") == "balanced":
        change = {"mode": "tpp", "variant": "balanced"}
    seen = altered(change) or (("output",) if advice.alters_output else ())
    return Remedy("advice", _DEEDS["relaunch"], "relaunch", change, seen)
