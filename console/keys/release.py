"""Keys of the page of releases."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action, PageEntry

PAGE: Final = PageEntry(
    "release", "0", "console.screens.release:ReleasePage", N_("release"),
    N_("Versions of the model: which is live, where the candidate stands, its gates."),
    N_("rel"),
)  # fmt: skip

SCOPES: Final = {"release": N_("Releases")}

ACTIONS: Final = (
    Action("add", ("a",), N_("add version"),
           N_("Keep a checkpoint, LoRA and parameters as a version under a name."), "release", 6,
           writes=True),
    Action("validate", ("v",), N_("validate"),
           N_("Run the selected version's checks on this host's devices."), "release", 4,
           writes=True),
    Action("start", ("s",), N_("start rollout"),
           N_("Make the selected version the candidate, at the first stage."), "release", 5,
           writes=True),
    Action("advance", ("n",), N_("next stage"), N_("Go on to the candidate's next stage."),
           "release", 6, writes=True),
    Action("pause", ("p",), N_("pause"), N_("New jobs go to stable until it is resumed."),
           "release", 2, writes=True),
    Action("resume", ("r",), N_("resume"), N_("Go on; the present stage begins anew."), "release",
           3, writes=True),
    Action("rollback", ("b",), N_("roll back"),
           N_("Take the candidate back, or what was promoted last, after asking."), "release", 1,
           writes=True),
    Action("promote", ("m",), N_("promote"),
           N_("Make the candidate stable, or name the first stable version; after asking."),
           "release", 7, writes=True),
)  # fmt: skip
