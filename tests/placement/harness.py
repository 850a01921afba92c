"""Groups of ranks without an engine: N processes that run the executor on random inputs."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.checkpoint.layout import find
from engine.messages import UnshardRecord
from engine.parameters.modes import ModeReading
from engine.parameters.request import Request
from engine.placement.plan import DType, Lead, Mode, Plan, Stage, Weights
from engine.placement.solve import DeviceOffer, solve
from tests.forks import forks
from tests.tiny import tiny_ckpt

CKPT = tiny_ckpt()
SIZE = (128, 64)  # width, height: 16 × 8 latent cells


@dataclass(frozen=True)
class Case:
    """What every rank computes."""

    clips: int = 2
    infer_frames: int = 24
    prefetch: int = 0
    dtype: str = "fp32"
    device: str = "cpu"
    stop_at_tick: int | None = None
    threshold: int | None = None
    seed: int = 7


@dataclass
class Outcome:
    """What one rank saw."""

    latents: dict[int, Any] = field(default_factory=dict)  # block → float32 array
    ticks: int = 0
    records: list[list[UnshardRecord]] = field(default_factory=list)  # per tick
    spikes: list[Any] = field(default_factory=list)
    peak_by_owner: dict[str, int] = field(default_factory=dict)
    clips: int = 0
    prefills: list[int] = field(default_factory=list)  # clips that were conditioned
    host_memory: frozenset[str] = frozenset()  # inodes of shared weights that were mapped


def plan_for(mode: str, ranks: int = 1, *, vae: bool = False, steps: int = 4, **case: Any) -> Plan:
    """A plan on CPU ranks for the sample checkpoint."""
    return solve(
        Request(sample_steps=steps, dtype=case.get("dtype", "fp32")),
        ModeReading(mode, ranks + vae, ranks, vae),
        find(CKPT).config,
        [DeviceOffer("cpu")],
        size=SIZE,
        clips=case.get("clips", 2),
    )


Cut = tuple[int, tuple[int, int], tuple[int, int]]  # rank, steps, layers


def plan_of(
    cuts: Sequence[Cut],
    *,
    steps: int = 4,
    vae_rank: int | None = None,
    weights: Weights | None = None,
    clips: int = 2,
    mode: Mode = "tpp",
    kv: Literal["device", "host"] = "device",
    kv_dtype: DType = "fp32",
    lead: Lead = "own",
) -> Plan:
    """A plan by hand, on CPU ranks: any cut of steps and layers."""
    plan = plan_for("single", steps=steps, clips=clips)
    stages = tuple(Stage(*cut) for cut in cuts)
    vae = stages[-1].rank if vae_rank is None else vae_rank
    ranks = max(vae, *(stage.rank for stage in stages)) + 1
    return dataclasses.replace(
        plan,
        mode=mode,
        stages=stages,
        kv=kv,
        kv_dtype=kv_dtype,
        lead=lead,
        weights=weights or plan.weights,
        order="sequential" if weights is None else "diagonal",
        vae_rank=vae,
        encoder_rank=vae,
        devices=tuple(dataclasses.replace(plan.devices[0], rank=n) for n in range(ranks)),
        spike_threshold_bytes=plan.spike_threshold_bytes * ranks,
    )


def run(plan: Plan, case: Case, timeout: float = 90) -> list[Outcome]:
    """All ranks' outcomes. Raises ``AssertionError`` with the traceback of a rank that failed."""
    context = forks()
    with tempfile.TemporaryDirectory() as folder:
        ends = [context.Pipe(duplex=False) for _ in range(plan.world_size)]
        ranks = [
            context.Process(
                target=_rank, args=(rank, plan, case, folder, ends[rank][1]), daemon=True
            )
            for rank in range(plan.world_size)
        ]
        for process in ranks:
            process.start()
        try:
            answers = []
            for rank, (receiver, _) in enumerate(ends):
                assert receiver.poll(timeout), f"rank {rank} said nothing for {timeout} s"
                answer = receiver.recv()
                assert not isinstance(answer, str), f"rank {rank}: {answer}"
                answers.append(answer)
            return answers
        finally:
            for process in ranks:
                process.join(10)
                if process.is_alive():
                    process.kill()
                    process.join()


def _rank(rank: int, plan: Plan, case: Case, folder: str, sender: Any) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        from tests.placement.onrank_worker import work

        sender.send(work(rank, plan, case, folder))
    except BaseException:  # noqa: BLE001 - told to the test
        sender.send(traceback.format_exc())


def replace(case: Case, **changes: Any) -> Case:
    return dataclasses.replace(case, **changes)
