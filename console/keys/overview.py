"""Keys of the overview and its devices."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action, PageEntry

PAGE: Final = PageEntry(
    "overview", "1", "console.screens.overview:Overview", N_("overview"),
    N_("Devices, pipeline, jobs, alerts and the log at a glance."),
    N_("over"),
)  # fmt: skip

SCOPES: Final = {"overview": N_("Overview"), "devices": N_("Devices")}

ACTIONS: Final = (
    Action("submit", ("s",), N_("submit"), N_("Submit a job from a preset."), "overview", 1,
           writes=True),
    Action("cancel_job", ("c",), N_("cancel"), N_("Cancel the selected job, after asking."),
           "overview", 2, writes=True),
    Action("modes", ("m",), N_("modes"),
           N_("Compare all modes; Enter switches the job, or the jobs that wait."), "overview"),
    Action("acknowledge", ("a",), N_("acknowledge"),
           N_("Say that the alert shown is seen; it is told no more."), "overview", 10,
           writes=True),
    Action("history", ("z",), N_("history"),
           N_("Zoom into one device's memory and temperature."), "overview", 5),
    Action("threshold", ("t",), N_("threshold"),
           N_("Set from how many GiB a rise counts as a spike."), "overview", 9, writes=True),
    Action("panel(-1)", ("up", "k", "left"), N_("up"), N_("Select the device before."), "devices"),
    Action("panel(1)", ("down", "j", "right"), N_("down"), N_("Select the device after."),
           "devices"),
    Action("open", ("enter",), N_("zoom"), N_("Zoom into the selected device."), "devices", 4),
    Action("span(1)", ("minus",), N_("longer"), N_("Let the plots cover more time."), "devices", 6),
    Action("span(-1)", ("plus", "equals_sign"), N_("shorter"),
           N_("Let the plots cover less time."), "devices"),
)  # fmt: skip
