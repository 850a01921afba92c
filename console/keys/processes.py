"""Keys of the page of processes: the only place where something is killed."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action, PageEntry

PAGE: Final = PageEntry(
    "processes", "4", "console.screens.processes:ProcessesPage", N_("processes"),
    N_("Who holds device memory, what is wrong with it, and how it is ended."),
    N_("procs"),
)  # fmt: skip

SCOPES: Final = {"processes": N_("Processes")}

ACTIONS: Final = (
    Action("kill", ("K",), N_("kill"),
           N_("End the selected process, after showing what it is and asking."), "processes", 1,
           writes=True),
    Action("copy_command", ("y",), N_("copy command"),
           N_("Copy the shell command that ends or explains the selected process."),
           "processes", 5),
)  # fmt: skip
