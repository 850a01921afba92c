"""Does a plan fit, and if not, why: one sentence per reason, each with its figures."""

from __future__ import annotations

from collections.abc import Sequence

from engine.placement.hardware import FP8_CAPABILITY, DeviceOffer
from engine.placement.plan import DevicePlan, HostPlan
from engine.placement.presets import Choice
from engine.placement.units import DTYPE_BYTES
from engine.sentence import joined, sentence


def gib(size: int | float | None) -> str:
    """``n/a`` where unknown; two decimals otherwise."""
    return "n/a" if size is None else f"{size / 2**30:.2f} GiB"


def structural(choice: Choice, devices: Sequence[DeviceOffer], layers: int) -> list[str]:
    """What cannot run however much memory there is."""
    kind, world = devices[0].kind, choice.world
    reasons: list[str] = []
    if choice.mode == "fsdp" and choice.dit_ranks < 2:
        reasons.append(sentence("fsdp shards the weights over 2 or more ranks; use --mode single"))
    if any(device.kind != kind for device in devices):
        reasons.append(sentence("the devices mix GPUs and CPU; a job runs on one kind"))
    if kind == "cuda" and world > len(devices):
        reasons.append(
            sentence(
                "the plan needs {needed} GPUs, {count} can be used",
                needed=world,
                count=len(devices),
            )
        )
    if not layers:
        reasons.append(sentence("the checkpoint's DiT has no layers"))
    if layers and (choice.resident_layers or 0) > layers:
        reasons.append(
            sentence(
                "{asked} layers cannot stay on the device, the model has {layers}; use "
                "--resident_layers {layers} or fewer",
                asked=choice.resident_layers,
                layers=layers,
            )
        )
    if choice.variant == "ring" and choice.dit_ranks > layers > 0:
        reasons.append(
            sentence(
                "a ring gives every rank at least one of {layers} layers, {ranks} ranks are too "
                "many; use --num_gpus_dit {layers}",
                layers=layers,
                ranks=choice.dit_ranks,
            )
        )
    return reasons


def fp8_misfits(choice: Choice, devices: Sequence[DeviceOffer]) -> list[str]:
    """fp8 products need tensor cores that have them. An unknown capability is no misfit.

    CPU ranks store keys and values in fp8, as they are only unpacked, and multiply fp8 weights in
    float32, slowly; GPUs older than the type are not asked to emulate it.
    """
    if "fp8" not in (choice.dtype, choice.kv_dtype):
        return []
    reasons: list[str] = []
    least = ".".join(map(str, FP8_CAPABILITY))
    for device in devices:
        have = device.capability
        if have is not None and have < FP8_CAPABILITY:
            reasons.append(
                sentence(
                    "{device} has compute capability {major}.{minor} (sm_{major}{minor}): fp8 "
                    "needs {least} or newer; use bf16",
                    device=device.device,
                    major=have[0],
                    minor=have[1],
                    least=least,
                )
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
        figures = {"needed": gib(needed), "usable": gib(usable)}
        told: str = (
            sentence("1 CPU rank needs {needed}, the host has {usable} free", **figures)
            if len(planned) == 1
            else sentence(
                "{ranks} CPU ranks need {needed}, the host has {usable} free",
                ranks=len(planned),
                **figures,
            )
        )
        return [_with_margin(told, margin) if needed <= usable else told]
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
    told: str = sentence(
        "rank {rank} on {device} needs {needed} ({largest}), {usable} can be used",
        rank=device.rank,
        device=device.device,
        needed=gib(device.predicted_bytes),
        largest=largest(device),
        usable=gib(device.usable_bytes),
    )
    if kept:
        told = _with_margin(told, device.margin_bytes)
    if not others:
        return told
    same = (
        sentence("ranks {ranks} the same", ranks=others)
        if len(others) > 1
        else sentence("rank {rank} the same", rank=others[0])
    )
    return joined((told, same))


def _with_margin(told: str, margin: int) -> str:
    return sentence("{what} (and a margin of {margin} is kept)", what=told, margin=gib(margin))


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
            sentence(
                "the text and speech encoders need {needed} of host memory, {free} are available",
                needed=gib(needed),
                free=gib(host.available_bytes),
            )
        ]
    needed += device.by_owner.get("context", 0)
    if device.usable_bytes is None or needed <= device.usable_bytes:
        return []
    told = sentence(
        "the text and speech encoders need {needed} on rank {rank}, {usable} can be used",
        needed=gib(needed),
        rank=device.rank,
        usable=gib(device.usable_bytes),
    )
    if device.device == "cpu":
        return [told]
    return [joined((told, sentence("--t5_cpu runs them on the host")))]


def host_misfits(host: HostPlan, disk_available: int | None) -> list[str]:
    """A launch that would bring the host down."""
    reasons: list[str] = []
    needed = host.pinned_bytes + host.process_bytes + host.mirror_bytes
    if host.available_bytes is not None and needed > host.available_bytes:
        figures = {
            "needed": gib(needed),
            "pinned": gib(host.pinned_bytes),
            "ranks": gib(host.process_bytes),
            "free": gib(host.available_bytes),
        }
        reasons.append(
            sentence(
                "the host would need {needed} of memory ({pinned} pinned, {ranks} for the ranks, "
                "{mirror} for the mirror), {free} are available",
                mirror=gib(host.mirror_bytes),
                **figures,
            )
            if host.mirror_bytes
            else sentence(
                "the host would need {needed} of memory ({pinned} pinned, {ranks} for the ranks), "
                "{free} are available",
                **figures,
            )
        )
    if disk_available is not None and host.disk_bytes > disk_available:
        reasons.append(
            sentence(
                "the video may take {size} of disk, {free} are free",
                size=gib(host.disk_bytes),
                free=gib(disk_available),
            )
        )
    return reasons


def measured_misfit(
    steady: int, root_unit: int, usable: int | None, mode: str = "fsdp"
) -> tuple[bool, str]:
    """The verdict on a measured steady state: what it and gathering the root take together.

    Args:
        root_unit: its bytes, 0 in a ``mode`` that gathers nothing.

    Returns whether it fits, and the sum as one sentence.
    """
    total = steady + root_unit
    if not root_unit:
        return _steady_misfit(steady, usable, mode)
    sum_ = f"{steady / 2**30:.2f} + {root_unit / 2**30:.2f} = {total / 2**30:.2f}"
    if usable is None:
        return True, sentence(
            "a measured steady state and the root unit, gathered: {sum} GiB; the capacity is not "
            "known",
            sum=sum_,
        )
    figures = {"sum": sum_, "usable": f"{usable / 2**30:.2f}"}
    if total <= usable:
        return True, sentence(
            "a measured steady state and the root unit, gathered: {sum} <= {usable} GiB usable: "
            "fits",
            **figures,
        )
    return False, sentence(
        "a measured steady state and the root unit, gathered: {sum} > {usable} GiB usable: does "
        "not fit",
        **figures,
    )


def _steady_misfit(steady: int, usable: int | None, mode: str) -> tuple[bool, str]:
    alone: str = sentence(
        "a measured steady state alone, as mode {mode} gathers nothing: {steady}",
        mode=mode,
        steady=gib(steady),
    )
    if usable is None:
        return True, joined((alone, sentence("the capacity is not known")))
    figures = {"what": alone, "usable": gib(usable)}
    if steady <= usable:
        return True, sentence("{what} <= {usable} usable: fits", **figures)
    return False, sentence("{what} > {usable} usable: does not fit", **figures)


def largest(device: DevicePlan) -> str:
    """The three owners that take most."""
    top = sorted(device.by_owner.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{owner} {gib(size)}" for owner, size in top)
