"""Keys of the recordings page."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action, PageEntry

PAGE: Final = PageEntry(
    "recordings", "8", "console.screens.recordings:RecordingsPage", N_("recordings"),
    N_("What the flight recorder kept, bundles and shipped examples; open one with Enter."),
    N_("recs"),
)  # fmt: skip

SCOPES: Final = {"recordings": N_("Recordings")}

ACTIONS: Final = (
    Action("watch", ("w",), N_("watch"),
           N_("Show the selected recording on every page; L leads back."), "recordings", 1),
    Action("file", ("f",), N_("file"), N_("Open a bundle, a segment or a folder by its path."),
           "recordings", 3),
    Action("reload", ("r",), N_("look again"), N_("Look again at what lies on the disk."),
           "recordings", 5),
)  # fmt: skip
