"""Keys of the checkpoint page."""

from __future__ import annotations

from typing import Final

from console.i18n import N_
from console.keys.kinds import Action, PageEntry

PAGE: Final = PageEntry(
    "checkpoint", "6", "console.screens.checkpoint:CheckpointPage", N_("checkpoint"),
    N_("Components, shards and tensors of the weights; verify them, see what changed on disk."),
    N_("ckpt"),
)  # fmt: skip

SCOPES: Final = {"checkpoint": N_("Checkpoint")}

ACTIONS: Final = (
    Action("verify(False)", ("v",), N_("verify"),
           N_("Check names, shapes, types and completeness of every file."), "checkpoint", 1),
    Action("verify(True)", ("V",), N_("verify values"),
           N_("The same, and read every value of the DiT in search of NaN."), "checkpoint", 2),
    Action("other", ("c",), N_("another"), N_("Choose another checkpoint."), "checkpoint", 3),
    Action("reload", ("r",), N_("read again"), N_("Read the headers again from the disk."),
           "checkpoint", 5),
)  # fmt: skip
