"""How the conditioning lies in a placement: before which rings, and of how many epochs at once."""

from __future__ import annotations

from engine.geometry import blocks_per_clip
from engine.parameters.request import Request
from engine.placement.plan import Lead
from engine.placement.presets import Choice, Layout


def leads(choice: Choice) -> tuple[Lead, ...]:
    """One for all rings saves memory where a rank has a layer for several steps."""
    several = choice.mode == "offload" or choice.variant == "ring"
    if choice.kv == "host" or choice.kv_dtype == "fp8":
        return ("shared", "single") if several else ("shared",)
    return ("own", "shared", "single") if several else (choice.lead,)


def together(choice: Choice, steps: int) -> bool:
    """Whether all items of a rank go through its layers in one walk, as weights come and go."""
    if choice.variant == "streamed":
        return choice.dit_ranks <= steps
    return choice.mode in ("offload", "fsdp")


def epochs(
    request: Request, choice: Choice, layout: Layout, rank: int, *, several_clips: bool
) -> int:
    """Conditioning epochs that a rank holds at once.

    A pipeline does a rank's older blocks first, so a rank that a block passes once is done with
    clip 0 when clip 1 is conditioned; in a ring blocks come again. Where all ranks walk together,
    a rank's first step meets clip 1 while its last step may still have blocks of clip 0.
    """
    steps = [n for s in layout.stages if s.rank == rank for n in range(*s.steps)]
    alone = layout.order == "sequential" or choice.lead == "single"
    if not steps or not several_clips or alone:
        return 1
    if not together(choice, request.sample_steps):
        return 2 if choice.variant == "ring" else 1
    per_clip = blocks_per_clip(request.infer_frames)
    # Clip 1 enters with its turn, and not before block 0 is finished.
    enters = max(per_clip, request.sample_steps)
    return 2 if enters + min(steps) <= per_clip - 1 + max(steps) else 1
