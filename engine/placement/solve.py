"""A request, its mode and the devices at hand → the ``Plan`` to launch, or why there is none.

Pure: nothing is asked of the machine here. Which mode a request means is read by
``engine.parameters.modes``; one choice becomes a plan in ``place``; what would do instead is said
by ``alternatives``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

from engine.checkpoint.expected import DiTShape
from engine.parameters.modes import ModeReading
from engine.parameters.request import Request
from engine.placement.alternatives import choose
from engine.placement.built import unbuilt
from engine.placement.calibration import Corrections
from engine.placement.hardware import DeviceOffer, HostOffer
from engine.placement.place import Question, ask, default_dtype, place, wrap_of
from engine.placement.plan import DType, Mode, Plan, Variant
from engine.placement.presets import Choice, cut_steps
from engine.placement.ulysses import ulysses_refusal

__all__ = ["DeviceOffer", "HostOffer", "choice_of", "cut_steps", "solve"]


def solve(
    request: Request,
    reading: ModeReading,
    config: Mapping[str, Any] | DiTShape,
    devices: Sequence[DeviceOffer],
    *,
    size: tuple[int, int],
    clips: int,
    vae_file_bytes: int | None = None,
    encoder_file_bytes: int | None = None,
    host: HostOffer | None = None,
    history: Corrections | None = None,
) -> Plan:
    """The plan that ``reading`` asks for, to be launched: what is not built is a reason too.

    Args:
        reading: mode and ranks, from ``read_mode``; mode ``auto`` picks the first that fits.
        devices: at least one; CPU ranks may share one offer, GPUs may not.
        The others: as of ``Question``.

    A plan that cannot run is returned with ``fits`` False and its reasons.

    Raises:
        CheckpointError: a configuration that names no network.
        ValueError: no device, or a size that is no frame.
    """
    question = ask(
        request,
        config,
        devices,
        size=size,
        clips=clips,
        vae_file_bytes=vae_file_bytes,
        encoder_file_bytes=encoder_file_bytes,
        host=host,
        history=history,
    )
    found = _solved(question, reading)
    refused = ulysses_refusal(question, reading)
    if refused is None:
        return found
    reasons = (refused, *found.reasons)
    return dataclasses.replace(found, fits=False, possible=False, reasons=reasons)


def _solved(question: Question, reading: ModeReading) -> Plan:
    if reading.mode == "auto":
        return choose(question)
    found = place(question, choice_of(question, reading))
    found = dataclasses.replace(found, remarks=(*reading.remarks, *found.remarks))
    missing = unbuilt(found)
    if not missing:
        return found
    reasons = (*missing, *found.reasons)
    return dataclasses.replace(found, fits=False, possible=False, reasons=reasons)


def choice_of(question: Question, reading: ModeReading) -> Choice:
    """What a request and its mode mean as a choice."""
    request = question.request
    dtype = default_dtype(question)
    ranks = 1 if reading.mode in ("single", "offload") else reading.dit_ranks
    variant = request.variant or ""
    if reading.mode == "tpp" and not variant and ranks > request.sample_steps:
        variant = "balanced"  # whole steps cannot be cut over more ranks
    return Choice(
        mode=cast(Mode, reading.mode),
        dit_ranks=ranks,
        dtype=dtype,
        kv_dtype=cast(DType, request.kv_dtype or ("bf16" if dtype == "fp8" else dtype)),
        own_vae=reading.own_vae_rank,
        variant=cast(Variant, variant),
        kv="host" if request.kv_home == "host" else "device",
        wrap=wrap_of(question),
        resident_layers=request.resident_layers,
    )
