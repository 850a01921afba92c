"""A checked job → what each of its ranks is told."""

from __future__ import annotations

import dataclasses

from engine.jobs.paths import JobPlaces, Places
from engine.preflight import Prepared
from engine.ranks.protocol import RankSpec, StateSpec
from engine.warm import Place


def rank_specs(
    job: int,
    prepared: Prepared,
    files: JobPlaces,
    places: Places,
    place: Place,
    state: StateSpec,
) -> list[RankSpec]:
    """One specification per rank of the plan."""
    plan = prepared.plan
    return [
        RankSpec(
            job=job,
            rank=device.rank,
            world_size=plan.world_size,
            device=device.device,
            backend="nccl" if plan.needs_nccl else "gloo",
            master_addr="127.0.0.1",
            master_port=0 if place.port is None else place.port.number,
            request=prepared.request.to_dict(),
            plan=plan.to_dict(),
            layout=prepared.layout.paths(),
            segment_dir=str(files.segments),
            cache_dir=str(places.embeddings),
            dump_latents=prepared.request.dump_latents,
            gpu_memory_cap=prepared.request.gpu_memory_cap,
            state=dataclasses.asdict(state),
            keep=place.name,
        )
        for device in plan.devices
    ]
