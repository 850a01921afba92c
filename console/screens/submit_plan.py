"""What a job would cost, while its form is filled in: fits or not, memory, time, length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from console import format as fmt
from console.i18n import n, t
from console.spoken import spoken
from console.tuning import (
    Ground,
    Planned,
    fullest,
    ground_key,
    kept_values,
    planned,
    read_ground,
    ways_of,
)
from engine import params
from engine.placement.alternatives import title

#: A line of the form and its colour role.
Said = tuple[str, str]


@dataclass(frozen=True)
class Seen:
    """What was found: sentences, and the length of the video where the sound ends it."""

    lines: Sequence[Said] = ()
    length: Said | None = None


class Foresight:
    """Plans what a form says; keeps what was read of files and devices. Used on one thread."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._read: dict[tuple[Any, ...], Ground] = {}

    def look(self, flags: Mapping[str, Any], preset: str | None) -> Seen:
        """What the values lead to; nothing where they are not complete yet.

        Takes a while: files and devices are read.
        """
        try:
            resolved = params.resolve(flags, self._environ, preset=preset)
        except params.ParamError:
            return Seen()  # told when it is sent
        if resolved.request.external:
            return Seen()
        values = kept_values(resolved.request.to_dict())
        try:
            key = ground_key(values)
            if key not in self._read:
                self._read[key] = read_ground(values)
            found = planned(self._read[key], values)
        except (ValueError, OSError) as error:
            said = t("What it costs cannot be told: {why}", why=spoken(str(error)))
            return Seen([(said, "soft")])
        after = [_time(found)] if found.plan.fits else _instead(found)
        return Seen([_verdict(found), *after], _length(found))


def _verdict(found: Planned) -> Said:
    plan, (held, usable) = found.plan, fullest(found.plan)
    figures = {
        "plan": spoken(title(plan)),
        "held": fmt.gib(held),
        "usable": fmt.gib(usable),
    }
    if plan.fits and found.question.kind == "cpu":
        said = t("✓ fits on CPU ranks, no GPU does the work: {plan}, {held} of {usable} GiB",
                 **figures)  # fmt: skip
        return said, "state.watch"
    if plan.fits:
        said = t("✓ fits: {plan}, {held} of {usable} GiB on the fullest device", **figures)
        return said, "state.good"
    why = spoken(plan.reasons[0])
    if plan.possible:
        return t("✗ does not fit: {plan}: {why}", **figures, why=why), "state.act"
    return t("✗ cannot run: {plan}: {why}", **figures, why=why), "state.act"


def _instead(found: Planned) -> list[Said]:
    near = next((way for way in ways_of(found) if way.usable), None)
    return [] if near is None else [(t("What would fit: {flags}", flags=near.flags), "soft")]


def _time(found: Planned) -> Said:
    if found.total is None:
        return t("Its time is n/a: nothing alike was measured on this host yet."), "soft"
    return t("{time} of work, as measured here.", time=fmt.duration(found.total)), "soft"


def _length(found: Planned) -> Said | None:
    """Of the video, where the sound ends it."""
    if not found.cut_short:
        return None
    figures = {"frames": f"{found.frames:,}", "seconds": f"{found.length:.1f}"}
    said = n(
        "The sound ends first, after {count} clip: {frames} frames, {seconds} s.",
        "The sound ends first, after {count} clips: {frames} frames, {seconds} s.",
        found.question.clips,
        **figures,
    )
    return said, "state.watch"
