"""Keys of the tune page."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action, PageEntry

PAGE: Final = PageEntry(
    "tune", "3", "console.screens.tune:TunePage", N_("tune"),
    N_("Change parameters and see at once what they cost; compare, try and submit."),
)  # fmt: skip

SCOPES: Final = {"tune": N_("Tune")}

ACTIONS: Final = (
    Action("turn(-1)", ("left",), N_("less"), N_("Take the next smaller value, or the one before."),
           "tune", 1),
    Action("turn(1)", ("right",), N_("more"), N_("Take the next larger value, or the one after."),
           "tune", 2),
    Action("default", ("backspace", "delete"), N_("default"),
           N_("Let the parameter be what it is by default."), "tune", 9),
    Action("fit", ("f",), N_("fit"), N_("Take the nearest values that fit."), "tune", 3),
    Action("fits", ("F",), N_("choose a fit"), N_("Choose among all plans that fit."), "tune"),
    Action("submit", ("s",), N_("submit"), N_("Submit a job with these values."), "tune", 4,
           writes=True),
    Action("preview", ("r",), N_("try"),
           N_("Run a short job with these values: frames, speed, memory, likeness."), "tune", 5,
           writes=True),
    Action("cancel_preview", ("c",), N_("cancel run"),
           N_("Cancel this variant's short run, after asking."), "tune", 12, writes=True),
    Action("modes", ("m",), N_("modes"), N_("Compare all modes for these values; Enter takes one."),
           "tune", 6),
    Action("another", ("v",), N_("variant"),
           N_("Put a copy of these values beside them, up to four."), "tune", 7),
    Action("drop", ("V",), N_("drop"), N_("Take this variant away."), "tune"),
    Action("variant(-1)", ("left_square_bracket",), N_("variant before"),
           N_("Go to the variant to the left."), "tune"),
    Action("variant(1)", ("right_square_bracket",), N_("variant after"),
           N_("Go to the variant to the right."), "tune"),
    Action("preset", ("p",), N_("preset"), N_("Take the values of a preset."), "tune", 8),
    Action("past", ("h",), N_("past runs"), N_("Start from the values of an earlier job."),
           "tune", 10),
    Action("save", ("w",), N_("save preset"), N_("Save these values as a preset of your own."),
           "tune", 11, writes=True),
)  # fmt: skip
