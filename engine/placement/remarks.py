"""What else is to be said of a plan that fits: what it costs, what it goes without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from engine.placement import verdict
from engine.placement.memory import RankLoad, Shapes, layer_bytes
from engine.placement.plan import HostPlan
from engine.placement.presets import Choice
from engine.sentence import joined, sentence

if TYPE_CHECKING:
    from engine.placement.place import Question


def remarks(
    question: Question, choice: Choice, shapes: Shapes, loads: Sequence[RankLoad], host: HostPlan
) -> Iterator[str]:
    """Sentences, the most important first."""
    for load in loads[:1]:
        if load.home == "streamed":
            yield _copied(question, shapes, load)
    told = all(device.capability is not None for device in question.devices)
    if "fp8" in (choice.dtype, choice.kv_dtype) and question.kind == "cuda" and not told:
        yield sentence("The compute capability is not known here; fp8 needs 8.9 or newer.")
    if question.kind == "cuda" and any(d.usable_bytes is None for d in question.devices):
        yield sentence(
            "The memory of these devices is not known, so nothing was held against it; "
            "--gpu-memory says how much there is."
        )
    if question.kind == "cpu" and question.request.gpu_memory_cap is not None:
        yield sentence(
            "On CPU ranks --gpu_memory_cap is no part of the verdict. It is kept while running, by "
            "what each rank has booked: a rank above it ends the job as one without memory would."
        )
    free = host.available_bytes
    if question.request.mirror == "auto" and not host.mirror_bytes:
        yield sentence(
            "Finished blocks are not mirrored, as host memory has no room for that: a killed job "
            "is computed again from its start, behind its committed clips."
        )
    if free is not None and host.snapshot_bytes > free:
        yield sentence(
            "A switch would hold {size} in host memory for a moment, {free} are available: let "
            "this job finish before switching.",
            size=verdict.gib(host.snapshot_bytes),
            free=verdict.gib(free),
        )


def _copied(question: Question, shapes: Shapes, load: RankLoad) -> str:
    """What a walk of streamed weights copies, and how long that takes at the least."""
    parts = layer_bytes(shapes)
    copied = sum(parts[n] for n in load.layers[load.resident_layers :])
    resident = min(load.resident_layers, len(load.layers))  # more may have been asked for
    walk = sentence(
        "Each walk copies {size} of weights from the host; {resident} of {layers} layers stay on "
        "the device.",
        size=verdict.gib(copied),
        resident=resident,
        layers=len(load.layers),
    )
    link = question.devices[0].link_bytes_per_second
    if not link:
        return walk
    least = sentence(
        "At {speed:.3g} GB/s that is {seconds:.2f} s a block at the least.",
        speed=link / 1e9,
        seconds=copied / link,
    )
    return joined((walk, least), " ")
