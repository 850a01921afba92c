"""The whole answer to what a placement would cost: plan, verdict, and what else would do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.parameters.modes import ModeReading
from engine.placement.alternatives import (
    Alternative,
    alternatives,
    choose,
    flags_of,
    overview,
    speed_key,
    title,
)
from engine.placement.built import unbuilt
from engine.placement.nearest import choice_of_plan
from engine.placement.place import Question, place
from engine.placement.plan import Plan, UnshardPlan
from engine.placement.presets import Choice
from engine.placement.solve import choice_of
from engine.placement.ulysses import ulysses_refusal
from engine.placement.units import units
from engine.placement.verdict import measured_misfit


@dataclass(frozen=True)
class Measured:
    """The verdict on a steady state that somebody measured."""

    steady_bytes: int
    root_unit_bytes: int  # 0: the mode gathers nothing
    total_bytes: int
    usable_bytes: int | None
    fits: bool
    sentence: str


@dataclass(frozen=True)
class ModeLine:
    """One mode beside the others, at its best on these devices."""

    mode: str
    variant: str
    title: str
    flags: str
    fits: bool
    built: bool
    predicted_bytes: int  # of the fullest device
    pinned_bytes: int
    seconds_per_block: float | None
    reason: str  # why not; empty if it fits
    possible: bool = True  # False: it cannot run here however much memory there is
    speed_order: int = 0  # 1: the fastest by the arithmetic that mode auto goes by


@dataclass(frozen=True)
class Answer:
    """A plan with everything a person needs to decide."""

    question: Question
    plan: Plan
    unbuilt: tuple[str, ...]  # why this version cannot launch it
    alternatives: tuple[Alternative, ...]
    modes: tuple[ModeLine, ...]
    measured: Measured | None = None

    @property
    def fits(self) -> bool:
        """Prediction and, if there is one, the verdict on the measurement."""
        return self.plan.fits and (self.measured is None or self.measured.fits)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it does not fit."""
        told = self.measured is not None and not self.measured.fits
        first = (self.measured.sentence,) if told and self.measured is not None else ()
        return (*first, *self.plan.reasons)


def plan_of(question: Question, reading: ModeReading) -> tuple[Choice, Plan]:
    """The plan alone, and the choice it follows from: milliseconds, for each key of a person.

    Raises:
        ValueError: a size that is no frame.
    """
    if reading.mode == "auto":
        plan = choose(question)
        missing = unbuilt(plan)
        # A reason here is about memory; that it is not built stands beside it.
        kept = tuple(reason for reason in plan.reasons if reason not in missing)
        plan = dataclasses.replace(plan, reasons=kept, fits=not kept)
        choice = choice_of_plan(question, plan)
    else:
        choice = choice_of(question, reading)
        plan = place(question, choice)
        plan = dataclasses.replace(plan, remarks=(*reading.remarks, *plan.remarks))
    if (refused := ulysses_refusal(question, reading)) is not None:
        reasons = (refused, *plan.reasons)
        plan = dataclasses.replace(plan, fits=False, possible=False, reasons=reasons)
    return choice, plan


def answer(
    question: Question,
    reading: ModeReading,
    *,
    measured_steady: int | None = None,
) -> Answer:
    """Plan what ``reading`` asks for, whether or not this version can launch it.

    Args:
        measured_steady: bytes a rank was measured to hold in its steady state.

    Raises:
        ValueError: a size that is no frame.
    """
    choice, plan = plan_of(question, reading)
    measured = None
    if measured_steady is not None:
        measured = _measured(question, choice, plan, measured_steady)
    fits = plan.fits and (measured is None or measured.fits)
    return Answer(
        question=question,
        plan=plan,
        unbuilt=unbuilt(plan),
        alternatives=() if fits else alternatives(question, choice),
        modes=_lines(question, overview(question, choice)),
        measured=measured,
    )


def to_json(found: Answer) -> dict[str, Any]:
    """The object of ``avatop plan --json``; ``docs/plan.md`` names its fields."""
    body = _plan_json(found.plan)
    body |= {
        "fits": found.fits,
        "reasons": list(found.reasons),
        "launchable": found.fits and not found.unbuilt,
        "unbuilt": list(found.unbuilt),
        "size": "{}*{}".format(*found.question.size),
        "clips": found.question.clips,
        "alternatives": [
            {
                **_plan_json(one.plan),
                "alters_output": list(one.alters_output),
                "flags": one.flags,
                "size": "{}*{}".format(*one.size),
                "launchable": one.built,
            }
            for one in found.alternatives
        ],
        "modes": [dataclasses.asdict(line) for line in found.modes],
        "measured": None if found.measured is None else dataclasses.asdict(found.measured),
    }
    return body


def _plan_json(plan: Plan) -> dict[str, Any]:
    body: dict[str, Any] = plan.to_dict()
    if body["unshard"] is None:  # nothing is gathered
        body["unshard"] = dataclasses.asdict(UnshardPlan())
    return body


def _lines(question: Question, found: Sequence[tuple[Choice, Plan]]) -> tuple[ModeLine, ...]:
    """Modes side by side, each with its place in the order of speed."""
    fastest = sorted((choice for choice, _ in found), key=speed_key(question))
    return tuple(_line(choice, plan, fastest.index(choice) + 1) for choice, plan in found)


def _line(choice: Choice, plan: Plan, speed_order: int) -> ModeLine:
    return ModeLine(
        mode=plan.mode,
        variant=plan.variant,
        title=title(plan),
        flags=flags_of(choice),
        fits=plan.fits,
        built=not unbuilt(plan),
        predicted_bytes=max(d.predicted_bytes for d in plan.devices),
        pinned_bytes=plan.host.pinned_bytes if plan.host else 0,
        seconds_per_block=plan.seconds_per_block,
        reason=plan.reasons[0] if plan.reasons else "",
        possible=plan.possible,
        speed_order=speed_order,
    )


def _measured(question: Question, choice: Choice, plan: Plan, steady: int) -> Measured:
    size = 0
    if choice.mode == "fsdp":
        root = next(u for u in units(question.shape, 1, choice.wrap) if u.name == "root")
        size = root.bytes(choice.dtype)
    usable = min((d.usable_bytes for d in plan.devices if d.usable_bytes is not None), default=None)
    fits, sentence = measured_misfit(steady, size, usable, plan.mode)
    return Measured(steady, size, steady + size, usable, fits, sentence)
