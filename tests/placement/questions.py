"""Questions to the planner, as tests ask them."""

from __future__ import annotations

from typing import Any

from engine.checkpoint.expected import DiTShape
from engine.checkpoint.shapes import DIT_14B, DIT_TINY
from engine.parameters.request import Request
from engine.placement.hardware import HostOffer, hypothetical
from engine.placement.place import Question, ask

GIB = 2**30
FOURTEEN_B = DiTShape.from_config(DIT_14B)
TINY = DiTShape.from_config(DIT_TINY)


def question(
    gpus: int = 4,
    usable: float | None = 22.15,
    *,
    capability: tuple[int, int] | None = (9, 0),
    link: float | None = None,
    host: float | None = None,
    size: tuple[int, int] = (704, 384),
    clips: int = 10,
    **request: Any,
) -> Question:
    """The 14B model at its usual size on ``gpus`` cards of ``usable`` GiB."""
    return ask(
        Request(**request),
        FOURTEEN_B,
        hypothetical(
            gpus,
            None if usable is None else int(usable * GIB),
            capability=capability,
            link_bytes_per_second=link,
        ),
        size=size,
        clips=clips,
        host=HostOffer(None if host is None else int(host * GIB)),
    )
