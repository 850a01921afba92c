"""The part of the harness that runs inside a rank; imports torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist

from engine.checkpoint.layout import find
from engine.checkpoint.onrank.load import DiTSource
from engine.model.config import DiTConfig, Numerics
from engine.model.generate import Generation, Inputs, Options
from engine.model.schedule import Schedule
from engine.placement.onrank.executor import executor_for
from engine.placement.onrank.groups import make_groups
from engine.placement.onrank.once import Once
from engine.placement.onrank.rings import Rings
from engine.placement.onrank.schedule import Tick, Work
from engine.placement.onrank.unshards import UnshardMeter
from engine.placement.onrank.weights import load_network, outline
from engine.placement.plan import Plan
from engine.ranks.onrank.ledger import Ledger, Threshold
from engine.ranks.onrank.probe import probe_for
from tests.placement.harness import CKPT, SIZE, Case, Outcome


class Watch:
    def __init__(self, ledger: Ledger, meter: UnshardMeter, outcome: Outcome) -> None:
        self.ledger, self.meter, self.outcome = ledger, meter, outcome

    @contextlib.contextmanager
    def window(self, label: str) -> Iterator[None]:
        with self.ledger.window(label):
            yield

    def caches(self, generation: Generation) -> None:
        self.ledger.book("conditioning", generation.conditioning_nbytes)

    def done(self, step: int, block: int, latent: torch.Tensor | None) -> None:
        """Nothing is kept."""

    def tick_done(self, tick: Tick, mine: tuple[Work, ...], seconds: float) -> None:
        self.outcome.ticks += 1
        if tick.prefill is not None:
            self.outcome.prefills.append(tick.prefill)
        self.outcome.records.append(self.meter.take())
        self.outcome.spikes.extend(self.ledger.take_spikes())


def inputs(cfg: DiTConfig, case: Case) -> Inputs:
    g = torch.Generator().manual_seed(3)
    width, height = SIZE[0] // 8, SIZE[1] // 8

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g)

    return Inputs(
        ref=draw(cfg.in_dim, 1, height, width),
        motion=draw(cfg.in_dim, cfg.motion_latents, height, width),
        context=draw(11, cfg.text_dim),
        audio=draw(1, cfg.audio_states, cfg.audio_dim, case.clips * case.infer_frames),
    )


def work(rank: int, plan: Plan, case: Case, folder: str) -> Outcome:
    torch.set_num_threads(1)
    device = torch.device(case.device if case.device == "cpu" else f"cuda:{rank}")
    if plan.world_size > 1:
        dist.init_process_group(
            "gloo" if device.type == "cpu" else "nccl",
            init_method=f"file://{folder}/store",
            rank=rank,
            world_size=plan.world_size,
        )
    outcome = Outcome()
    dtype = torch.float32 if case.dtype == "fp32" else torch.bfloat16
    ledger = Ledger(probe_for(device))
    if case.threshold is not None:
        ledger.threshold = Threshold(case.threshold, absolute=True)
    meter = UnshardMeter(ledger)
    groups = make_groups(plan, rank, device, 60)
    with torch.no_grad(), DiTSource(find(CKPT).paths(), dtype=dtype) as source:
        dit = source.build(Numerics(compute=dtype, fp8=plan.dtype == "fp8"))
        loaded = load_network(
            plan,
            rank,
            dit,
            source,
            groups,
            device,
            ledger,
            meter,
            prefetch=case.prefetch,
            once=Once(
                inputs(dit.cfg, case).context, Schedule.flow_match(plan.sample_steps, 3).timesteps
            ),
        )
        rings = Rings(plan, device)
        generation = Generation(
            dit.cfg,
            Options(case.clips, plan.sample_steps, infer_frames=case.infer_frames, seed=case.seed),
            inputs(dit.cfg, case),
            dtype=dtype,
            device=device,
            **outline(plan, rank),
            make_ring=rings.make,
            job=loaded.job,
        )
        ledger.add(rings.owner, rings.device_bytes)
        asked = iter(range(1_000_000))
        executor = executor_for(
            plan,
            rank,
            generation,
            loaded.network,
            groups,
            frame=(SIZE[1] // 8, SIZE[0] // 8),
            stop=lambda: case.stop_at_tick is not None and next(asked) >= case.stop_at_tick,
            observer=Watch(ledger, meter, outcome),
        )
        for finished in executor.run():
            outcome.latents[finished.block] = finished.latent.float().cpu().numpy()
    outcome.clips = executor.clips
    mapped = (line.split() for line in Path("/proc/self/maps").read_text().splitlines())
    outcome.host_memory = frozenset(m[4] for m in mapped if len(m) > 5 and "avatop-weights" in m[5])
    if rings.owner != "kv":
        ledger.book("kv", generation.kv_nbytes)
    else:
        ledger.book("kv", generation.kv_nbytes + rings.device_bytes)
    outcome.peak_by_owner = ledger.peak_by_owner
    loaded.close()
    groups.barrier(patient=True)
    if dist.is_initialized():
        dist.destroy_process_group()
    return outcome
