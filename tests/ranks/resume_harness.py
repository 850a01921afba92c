"""Groups of ranks that are killed at a chosen moment, and groups that go on from what was kept."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.placement.cut import Cut, find_cut, look
from engine.placement.onrank.route import Route
from engine.placement.plan import plan_from_dict
from engine.ranks.protocol import RankSpec, StateSpec
from tests.forks import forks
from tests.ranks import job_harness
from tests.ranks.job_harness import Orders, RankReports, Reports

#: Three clips of two blocks, so that the second conditioning is behind and before the moment.
ASK: dict[str, Any] = {"seconds": 3.0, "num_clip": 3, "size": "64*64"}
LATENT_BYTES = 16 * 3 * 8 * 8 * 4


@dataclass(frozen=True)
class Placed:
    """A mode as the harness places it."""

    mode: str
    ranks: int = 1
    vae: bool = False
    variant: str | None = None


MODES = {
    "single": Placed("single"),
    "offload": Placed("offload"),
    "tpp": Placed("tpp", 2, vae=True),
    "fsdp": Placed("fsdp", 2),
    "ring": Placed("tpp", 2, variant="ring"),
    "balanced": Placed("tpp", 3, variant="balanced"),
}


class Deadly(Reports):
    """Ends its own process by SIGKILL right after it has told a step of a block."""

    def __init__(self, step: int, block: int) -> None:
        super().__init__()
        self._moment = step, block

    def send(self, kind: str, **data: Any) -> None:
        super().send(kind, **data)
        if kind == "step" and (data["step"], data["block"]) == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)


def specs(folder: Path, name: str, state: StateSpec) -> list[RankSpec]:
    """One job's ranks; its clips and latents lie in ``folder / "segments"``."""
    placed = MODES[name]
    ask = {**ASK, "variant": placed.variant} if placed.variant else ASK
    segments = folder / "segments"
    segments.mkdir(exist_ok=True)
    every = job_harness.specs(folder, placed.mode, placed.ranks, vae=placed.vae, **ask)
    return [
        dataclasses.replace(spec, state=dataclasses.asdict(state), segment_dir=str(segments))
        for spec in every
    ]


def kill_at(folder: Path, name: str, step: int, block: int) -> None:
    """Run a mirrored job until the rank that ends ``step`` of ``block`` is killed, then all."""
    mirror = folder / "mirror"
    mirror.mkdir(exist_ok=True)
    every = specs(folder, name, StateSpec(folder=str(mirror)))
    victim = Route.of(plan_from_dict(every[0].plan)).last(step).rank
    context = forks()
    ranks = [
        context.Process(
            target=_rank, args=(spec, (step, block) if spec.rank == victim else None), daemon=True
        )
        for spec in every
    ]
    for process in ranks:
        process.start()
    ranks[victim].join(100)
    died = ranks[victim].exitcode
    for process in ranks:
        process.kill()
        process.join()
    assert died == -signal.SIGKILL


def kept_cut(folder: Path) -> Cut | None:
    """Where a job of ``specs`` can go on."""
    log = folder / "segments" / "latents.bin"
    logged = log.stat().st_size // LATENT_BYTES if log.exists() else 0
    kept = look(folder / "mirror")
    return find_cut(kept, steps=4, layers=8, per_clip=2, blocks=6, logged=logged)


def go_on(folder: Path, name: str, cut: Cut | None, committed: int = 0) -> RankReports:
    """Run the job on from ``cut`` to its end; the reports of the rank with the VAE."""
    mirror = str(folder / "mirror")
    blocks = None if cut is None else cut.blocks
    state = StateSpec(folder=mirror, source=mirror, cut=blocks, committed=committed)
    every = job_harness.run(specs(folder, name, state))
    return next(found for found in every if found.result["latents_sha256"] is not None)


def _rank(spec: RankSpec, moment: tuple[int, int] | None) -> None:
    from engine.ranks.onrank.job import run as job
    from engine.ranks.onrank.setup import prepare

    with contextlib.suppress(RuntimeError):  # a peer has gone
        try:
            job(prepare(spec), Reports() if moment is None else Deadly(*moment), Orders())
        except Exception:
            traceback.print_exc()
            raise
