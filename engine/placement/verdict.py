"""Does a plan fit, and if not, why: one sentence per reason, each with its figures."""

from __future__ import annotations

from collections.abc import Sequence

from engine.placement.hardware import FP8_CAPABILITY, DeviceOffer
from engine.placement.plan import DevicePlan, HostPlan
from engine.placement.presets import Choice
from engine.placement.units import DTYPE_BYTES


def gib(size: int | float | None) -> str:
    """``n/a`` where unknown; two decimals otherwise."""
    return "n/a" if size is None else f"{size / 2**30:.2f} GiB"


def structural(choice: Choice, devices: Sequence[DeviceOffer], layers: int) -> list[str]:
    """What cannot run however much memory there is."""
    kind, world, reasons = devices[0].kind, choice.world, []
    if choice.mode == "fsdp" and choice.dit_ranks < 2:
        reasons.append("fsdp shards the weights over 2 or more ranks; use --mode single")
    if any(device.kind != kind for device in devices):
        reasons.append("the devices mix GPUs and CPU; a job runs on one kind")
    if kind == "cuda" and world > len(devices):
        reasons.append(f"the plan needs {world} GPUs, {len(devices)} can be used")
    if not layers:
        reasons.append("the checkpoint's DiT has no layers")
    if layers and (choice.resident_layers or 0) > layers:
        reasons.append(
            f"{choice.resident_layers} layers cannot stay on the device, the model has {layers}; "
            f"use --resident_layers {layers} or fewer"
        )
    if choice.variant == "ring" and choice.dit_ranks > layers > 0:
        reasons.append(
            f"a ring gives every rank at least one of {layers} layers, {choice.dit_ranks} ranks "
            f"are too many; use --num_gpus_dit {layers}"
        )
    return reasons


def fp8_misfits(choice: Choice, devices: Sequence[DeviceOffer]) -> list[str]:
    """fp8 products need tensor cores that have them. An unknown capability is no misfit.

    CPU ranks store keys and values in fp8, as they are only unpacked, and multiply fp8 weights in
    float32, slowly; GPUs older than the type are not asked to emulate it.
    """
    if "fp8" not in (choice.dtype, choice.kv_dtype):
        return []
    reasons = []
    least = ".".join(map(str, FP8_CAPABILITY))
    for device in devices:
        have = device.capability
        if have is not None and have < FP8_CAPABILITY:
            reasons.append(
                f"{device.device} has compute capability {have[0]}.{have[1]} "
                f"(sm_{have[0]}{have[1]}): fp8 needs {least} or newer; use bf16"
            )
            break
    return reasons


def memory_misfits(planned: Sequence[DevicePlan], kind: str) -> list[str]:
    """Devices, or on CPU ranks the host, that would hold more than can be used."""
    if kind == "cpu":
        usable = planned[0].usable_bytes
        needed = sum(device.predicted_bytes for device in planned)
        margin = sum(device.margin_bytes for device in planned)
        if usable is None or needed + margin <= usable:
            return []
        ranks = "1 CPU rank needs" if len(planned) == 1 else f"{len(planned)} CPU ranks need"
        return [
            f"{ranks} {gib(needed)}, the host has {gib(usable)} free"
            + (f" (and a margin of {gib(margin)} is kept)" if needed <= usable else "")
        ]
    short = [
        device
        for device in planned
        if device.usable_bytes is not None
        and device.predicted_bytes + device.margin_bytes > device.usable_bytes
    ]
    # Ranks that lack the same are told together: their sentences differ in nothing else.
    alike: dict[tuple[int, int | None], list[DevicePlan]] = {}
    for device in short:
        alike.setdefault((device.predicted_bytes, device.usable_bytes), []).append(device)
    return [_misfit(devices) for devices in alike.values()]


def _misfit(devices: Sequence[DevicePlan]) -> str:
    device, others = devices[0], [str(one.rank) for one in devices[1:]]
    kept = device.usable_bytes is not None and device.predicted_bytes <= device.usable_bytes
    return (
        f"rank {device.rank} on {device.device} needs {gib(device.predicted_bytes)} "
        f"({largest(device)}), {gib(device.usable_bytes)} can be used"
        + (f" (and a margin of {gib(device.margin_bytes)} is kept)" if kept else "")
        + (f"; rank{'s' * (len(others) > 1)} {', '.join(others)} the same" if others else "")
    )


def encoder_misfit(
    device: DevicePlan, file_bytes: int | None, dtype: str, host: HostPlan, on_host: bool
) -> list[str]:
    """The encoders run before the DiT is loaded and leave again, so they count alone."""
    if file_bytes is None:
        return []
    # umT5 is stored in bf16; in fp32 it takes twice its file.
    needed = file_bytes * max(2, DTYPE_BYTES[dtype]) // 2
    if on_host:
        if host.available_bytes is None or needed <= host.available_bytes:
            return []
        return [
            f"the text and speech encoders need {gib(needed)} of host memory, "
            f"{gib(host.available_bytes)} are available"
        ]
    needed += device.by_owner.get("context", 0)
    if device.usable_bytes is None or needed <= device.usable_bytes:
        return []
    return [
        f"the text and speech encoders need {gib(needed)} on rank {device.rank}, "
        f"{gib(device.usable_bytes)} can be used"
        + ("" if device.device == "cpu" else "; --t5_cpu runs them on the host")
    ]


def host_misfits(host: HostPlan, disk_available: int | None) -> list[str]:
    """A launch that would bring the host down."""
    reasons = []
    needed = host.pinned_bytes + host.process_bytes + host.mirror_bytes
    if host.available_bytes is not None and needed > host.available_bytes:
        mirror = f", {gib(host.mirror_bytes)} for the mirror" if host.mirror_bytes else ""
        reasons.append(
            f"the host would need {gib(needed)} of memory ({gib(host.pinned_bytes)} pinned, "
            f"{gib(host.process_bytes)} for the ranks{mirror}), {gib(host.available_bytes)} are "
            "available"
        )
    if disk_available is not None and host.disk_bytes > disk_available:
        reasons.append(
            f"the video may take {gib(host.disk_bytes)} of disk, {gib(disk_available)} are free"
        )
    return reasons


def measured_misfit(steady: int, root_unit: int, usable: int | None) -> tuple[bool, str]:
    """The verdict on a measured steady state: what it and gathering the root take together.

    Returns whether it fits, and the sum as one sentence.
    """
    total = steady + root_unit
    sum_ = f"{steady / 2**30:.2f} + {root_unit / 2**30:.2f} = {total / 2**30:.2f}"
    text = "a measured steady state and the root unit, gathered: "
    if usable is None:
        return True, f"{text}{sum_} GiB; the capacity is not known"
    fits = total <= usable
    return fits, (
        f"{text}{sum_} {'<=' if fits else '>'} {usable / 2**30:.2f} GiB usable: "
        f"{'fits' if fits else 'does not fit'}"
    )


def largest(device: DevicePlan) -> str:
    """The three owners that take most."""
    top = sorted(device.by_owner.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{owner} {gib(size)}" for owner, size in top)
