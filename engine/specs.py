"""A checked job → what its ranks need: devices, a rendezvous, and what each of them is told."""

from __future__ import annotations

import dataclasses

from engine.closing import Ended
from engine.guard.lease import Lease, take_all
from engine.guard.ports import Port, reserve
from engine.jobs.paths import JobPlaces, Places
from engine.placement.plan import Plan
from engine.preflight import Prepared
from engine.ranks.protocol import RankSpec, StateSpec


def reserve_for(plan: Plan) -> tuple[list[Lease], Port | None]:
    """A plan's devices, and a rendezvous for its ranks.

    Raises:
        LeaseHeld: a device is another engine's.
        Ended: there is no port.
    """
    leases = take_all(d.uuid for d in plan.devices if d.uuid is not None)
    try:
        return leases, reserve() if plan.world_size > 1 else None
    except OSError as error:
        for lease in leases:
            lease.release()
        raise Ended("failed", str(error)) from error


def rank_specs(
    job: int,
    prepared: Prepared,
    files: JobPlaces,
    places: Places,
    port: Port | None,
    state: StateSpec,
) -> list[RankSpec]:
    """One specification per rank of the plan."""
    plan = prepared.plan
    # Ranks whose weights stay talk through host memory alone: a communicator costs device memory.
    nccl = plan.devices[0].device.startswith("cuda") and plan.weights.kind != "resident"
    return [
        RankSpec(
            job=job,
            rank=device.rank,
            world_size=plan.world_size,
            device=device.device,
            backend="nccl" if nccl else "gloo",
            master_addr="127.0.0.1",
            master_port=0 if port is None else port.number,
            request=prepared.request.to_dict(),
            plan=plan.to_dict(),
            layout=prepared.layout.paths(),
            segment_dir=str(files.segments),
            cache_dir=str(places.embeddings),
            dump_latents=prepared.request.dump_latents,
            gpu_memory_cap=prepared.request.gpu_memory_cap,
            state=dataclasses.asdict(state),
        )
        for device in plan.devices
    ]
