"""Sequence parallelism: what asking for it means, and the plan that serves the same purpose."""

from __future__ import annotations

from typing import cast

from engine.parameters.modes import ModeReading, is_articles_line
from engine.placement.place import Question, default_dtype, place
from engine.placement.plan import DType, Variant
from engine.placement.presets import Choice
from engine.sentence import joined, sentence


def ulysses_refusal(question: Question, reading: ModeReading) -> str | None:
    """Why a request's ``ulysses_size`` cannot be had; None where it is 1 or was read as 1.

    Splitting every step's heads over U devices needs heads that divide by U and U devices for each
    DiT rank. Neither makes it built: cutting through layers uses as many devices.
    """
    asked = question.request.ulysses_size
    if asked == 1 or is_articles_line(question.request):
        return None
    needed = asked * reading.dit_ranks
    # CPU ranks share the host's cores: more than were asked for are not faster.
    devices = reading.dit_ranks if question.kind == "cpu" else min(needed, len(question.devices))
    near = (
        f"--mode tpp --variant {_variant(question, devices)} --num_gpus_dit {devices}"
        if devices > 1
        else "--mode single"
    )
    return joined(
        (
            sentence(
                "--ulysses_size {asked} splits the attention of every step over {asked} devices: "
                "{heads}, it takes {needed}, and it is not built in this version",
                asked=asked,
                heads=_heads(question.shape.num_heads, asked),
                needed=_gpus(question, needed),
            ),
            sentence(
                "{near} spreads the same work over {devices} by cutting through steps and layers",
                near=near,
                devices=devices,
            ),
        )
    )


def _variant(question: Question, devices: int) -> Variant:
    """The fastest cut through layers that fits so many devices."""
    dtype = default_dtype(question)
    kv_dtype = cast(DType, question.request.kv_dtype or ("bf16" if dtype == "fp8" else dtype))
    variants: tuple[Variant, ...] = ("balanced", "ring")
    for variant in variants:
        if place(question, Choice("tpp", devices, dtype, kv_dtype, variant=variant)).fits:
            return variant
    return variants[0]


def _heads(heads: int, asked: int) -> str:
    if heads % asked:
        return sentence(
            "the model's {heads} heads do not divide by {asked}", heads=heads, asked=asked
        )
    return sentence("the model's {heads} heads divide by {asked}", heads=heads, asked=asked)


def _gpus(question: Question, needed: int) -> str:
    if question.kind == "cpu":
        return sentence("{needed} GPUs", needed=needed)
    return sentence(
        "{needed} GPUs ({count} can be used)", needed=needed, count=len(question.devices)
    )
