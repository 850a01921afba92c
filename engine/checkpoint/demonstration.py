"""What a checkpoint says about itself: whether it only demonstrates, and for which size it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine.sentence import sentence

#: Key of ``config.json`` that the sample checkpoint carries and released ones do not: an object
#: with ``size`` ("128*128") and ``steps``, what it was trained for.
KEY: Final = "avatop_demonstration"

_REAL: Final = sentence("a real video needs the Wan2.2-S2V-14B checkpoint with Live Avatar's LoRA")


def remarks(config: Mapping[str, Any], size: str | None, steps: int) -> tuple[str, ...]:
    """What a user of this checkpoint should know, or nothing.

    Args:
        config: the DiT's ``config.json``.
        size: the request's, "width*height".
        steps: the request's denoising steps.
    """
    told = config.get(KEY)
    if not isinstance(told, Mapping):
        return ()
    said = [
        sentence(
            "this is the sample model, a demonstration trained on drawn faces: "
            "photographs come back coarse, prompts change nothing; {real}.",
            real=_REAL,
        )
    ]
    best, known = told.get("size"), told.get("steps")
    if best is not None and size != best:
        said.append(
            sentence(
                "the sample model was trained at {best}; at {size} its faces may smear.",
                best=best,
                size=size,
            )
        )
    if known is not None and steps != known:
        said.append(
            sentence(
                "the sample model was trained for {known} steps, not {steps}.",
                known=known,
                steps=steps,
            )
        )
    return tuple(said)
