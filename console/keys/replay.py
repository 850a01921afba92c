"""Keys that move the cursor of a recording, on every page of ``avatop replay``."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action

SCOPES: Final = {
    "replay": N_("While a recording is shown"),
    "visit": N_("While a recording is shown in place of the present"),
}

ACTIONS: Final = (
    Action("transport('play')", ("space",), N_("play"), N_("Play or pause the recording."),
           "replay", 0),
    Action("transport('mark',-1)", ("left_square_bracket",), N_("mark before"),
           N_("Go to the spike, alert or error before."), "replay", 1),
    Action("transport('mark',1)", ("right_square_bracket",), N_("mark after"),
           N_("Go to the next spike, alert or error."), "replay", 2),
    Action("transport('step',-1)", ("left",), N_("back"), N_("Go back five seconds."),
           "replay", 3),
    Action("transport('step',1)", ("right",), N_("on"), N_("Go on five seconds."), "replay", 4),
    Action("transport('speed',1)", ("plus", "equals_sign"), N_("faster"),
           N_("Play faster, up to 60×."), "replay", 5),
    Action("transport('speed',-1)", ("minus",), N_("slower"), N_("Play slower, down to 1×."),
           "replay", 6),
    Action("transport('edge',-1)", ("home",), N_("start"), N_("Go to the recording's start."),
           "replay", 7),
    Action("transport('edge',1)", ("end",), N_("end"), N_("Go to the recording's end."),
           "replay", 8),
    Action("present", ("L",), N_("live"),
           N_("Leave the recording; every page shows the present again."), "visit", 0),
)  # fmt: skip
