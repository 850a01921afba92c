"""Sequence parallelism: what asking for it means, and the plan that serves the same purpose."""

from __future__ import annotations

from engine.parameters.modes import ModeReading, is_articles_line
from engine.placement.place import Question


def ulysses_refusal(question: Question, reading: ModeReading) -> str | None:
    """Why a request's ``ulysses_size`` cannot be had; None where it is 1 or was read as 1.

    Splitting every step's heads over U devices needs heads that divide by U and U devices for each
    DiT rank. Neither makes it built: cutting through layers uses as many devices.
    """
    asked = question.request.ulysses_size
    if asked == 1 or is_articles_line(question.request):
        return None
    heads, needed = question.shape.num_heads, asked * reading.dit_ranks
    divides = "divide" if heads % asked == 0 else "do not divide"
    have = "" if question.kind == "cpu" else f" ({len(question.devices)} can be used)"
    devices = needed if question.kind == "cpu" else min(needed, len(question.devices))
    near = (
        f"--mode tpp --variant balanced --num_gpus_dit {devices}"
        if devices > 1
        else "--mode single"
    )
    return (
        f"--ulysses_size {asked} splits the attention of every step over {asked} devices: the "
        f"model's {heads} heads {divides} by {asked}, it takes {needed} GPUs{have}, and it is not "
        f"built in this version; {near} spreads the same work over {devices} by cutting through "
        "steps and layers"
    )
