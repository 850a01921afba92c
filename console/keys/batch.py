"""Keys of the page of batches."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action, PageEntry

PAGE: Final = PageEntry(
    "batch", "9", "console.screens.batch:BatchPage", N_("batch"),
    N_("Videos of whole folders: every pair, its state, its tries, what went wrong."),
)  # fmt: skip

SCOPES: Final = {"batch": N_("Batches")}

ACTIONS: Final = (
    Action("start", ("s",), N_("start"), N_("Begin a batch from two folders."), "batch", 1,
           writes=True),
    Action("pause", ("p",), N_("pause"),
           N_("Begin no more items; those on a device are finished."), "batch", 3, writes=True),
    Action("resume", ("r",), N_("resume"),
           N_("Go on with a paused or stopped batch; what is done is not done again."), "batch", 4,
           writes=True),
    Action("stop", ("x",), N_("stop"), N_("End the batch now, after asking; it can be resumed."),
           "batch", 5, writes=True),
    Action("retry", ("t",), N_("retry failed"),
           N_("Begin again what failed or was set apart, with fresh tries."), "batch", 2,
           writes=True),
    Action("report", ("v",), N_("report"), N_("Read the batch's report."), "batch", 4),
    Action("to_job", ("g",), N_("go to job"), N_("Show the job of the selected item."), "batch", 5),
)  # fmt: skip
