"""Keys of the jobs page and of the comparison of modes."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action, PageEntry

PAGE: Final = PageEntry(
    "jobs", "2", "console.screens.jobs:JobsPage", N_("jobs"),
    N_("Every job with its plan, its clips, its files and its log; steer them here."),
)  # fmt: skip

SCOPES: Final = {"jobs": N_("Jobs")}

ACTIONS: Final = (
    Action("submit", ("s",), N_("submit"), N_("Submit a job from a preset."), "jobs", 1,
           writes=True),
    Action("clone", ("e",), N_("clone"),
           N_("Fill the form with this job's values, change some, submit it as a new job."),
           "jobs", 5, writes=True),
    Action("pause", ("p",), N_("pause"),
           N_("Stop the job at its next clip boundary, its state on disk."), "jobs", 2,
           writes=True),
    Action("resume", ("r",), N_("resume"),
           N_("Let a paused or interrupted job go on; asks how."), "jobs", 3, writes=True),
    Action("modes", ("m",), N_("modes"),
           N_("Compare all modes; Enter switches the job, or the jobs that wait."), "jobs", 4),
    Action("finish", ("f",), N_("finish now"),
           N_("End the job and join its committed clips, after asking."), "jobs", 11, writes=True),
    Action("cancel_job", ("c",), N_("cancel"), N_("Cancel the selected jobs, after asking."),
           "jobs", 6, writes=True),
    Action("relaunch", ("x",), N_("relaunch"),
           N_("Start an ended job again; after out of memory by the nearest plan that fits."),
           "jobs", 7, writes=True),
    Action("next", ("n",), N_("run next"), N_("Put the waiting job at the head of the queue."),
           "jobs", 12, writes=True),
    Action("reorder(-1)", ("less_than_sign",), N_("earlier"),
           N_("Let the waiting job run one place earlier."), "jobs", writes=True),
    Action("reorder(1)", ("greater_than_sign",), N_("later"),
           N_("Let the waiting job run one place later."), "jobs", writes=True),
    Action("log", ("l",), N_("log"), N_("Show the job's log, or its details again."), "jobs", 8),
    Action("copy_path", ("y",), N_("copy path"),
           N_("Copy the path of the video to the clipboard of your terminal."), "jobs", 9),
    Action("copy_scp", ("Y",), N_("copy scp"),
           N_("Copy a line that fetches the video with scp."), "jobs"),
    Action("drain(True)", ("d",), N_("drain"),
           N_("Give a device no new work; what runs there goes on."), "jobs", 13, writes=True),
    Action("drain(False)", ("D",), N_("undrain"), N_("Let a drained device have work again."),
           "jobs", writes=True),
    Action("back", ("escape",), N_("to the table"), N_("Go back to the table."), "jobs"),
)  # fmt: skip
