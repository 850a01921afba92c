"""Plans and rows for tests of bookkeeping."""

from __future__ import annotations

from typing import Any

from engine.messages import JobRow
from engine.placement.plan import DevicePlan, Plan, Resident, Stage


def plan(ranks: int = 2, device: str = "cpu") -> Plan:
    devices = tuple(
        DevicePlan(
            rank=n,
            device=device if device == "cpu" else f"cuda:{n}",
            uuid=None if device == "cpu" else f"GPU-{n}",
            capacity_bytes=1 << 30,
            predicted_bytes=1000 + n,
        )
        for n in range(ranks)
    )
    return Plan(
        mode="single" if ranks == 1 else "fsdp",
        dtype="fp32",
        sample_steps=4,
        stages=(Stage(0, (0, 4), (0, 8)),),
        weights=Resident(),
        kv="device",
        kv_dtype="fp32",
        vae_rank=ranks - 1,
        encoder_rank=0,
        order="sequential",
        devices=devices,
        unshard=None,
        spike_threshold_bytes=(2000,) * ranks,
        fits=True,
    )


def row(**fields: Any) -> JobRow:
    base: dict[str, Any] = {
        "id": 1,
        "state": "loading",
        "mode": "fsdp",
        "size": "64*64",
        "clip": 0,
        "clips": 2,
    }
    return JobRow(**{**base, **fields})
