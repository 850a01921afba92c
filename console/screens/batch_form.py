"""Begin a batch: its folders, and any flag of ``avatop batch``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from textual.widgets import Input

from console.i18n import N_, t
from console.screens.form import Pick, entry
from console.screens.verb_form import VerbForm
from console.spoken import spoken
from console.state import Model
from console.widgets.paint import Paint
from engine import params


class BatchForm(VerbForm):
    """The result is ``BatchSpec.to_dict()``, or None when left.

    What is typed becomes the arguments of ``avatop batch``.
    """

    REQUIRED = 3
    ALL_FLAGS = N_("All flags are told by: avatop batch start --help")

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(
            model, paint, t("Make a video of every pair of two folders"),
            t("Enter begins · Esc leaves · ↑ ↓ go between fields · ← → change a choice"),
        )  # fmt: skip
        paint = self.paint
        last = max(model.jobs.values(), key=lambda job: job.id, default=None)
        checkpoint = str((last.request if last else {}).get("ckpt_dir") or "")
        self.audio = entry("", t("folder of sounds: anna.wav …"), "audio")
        self.image = entry("", t("folder of portraits: anna.png …; may be the same"), "image")
        self.output = entry("", t("folder for the videos: anna.mp4 …"), "output")
        self.checkpoint = entry(checkpoint, t("directory of the checkpoint"), "ckpt")
        self.flags = entry("", t("any flag of avatop batch: --retries 2 --base_seed 7"), "flags")
        presets = params.presets()
        self.preset = Pick(
            model, paint, [(p.name, spoken(p.purpose)) for p in presets], "standard", id="preset"
        )
        lines = [
            ("auto", t("measured or by rule: what is quicker")),
            ("pipeline", t("one pipeline over all devices")),
            *((str(count), t("independent rank groups side by side")) for count in (1, 2, 4, 8)),
        ]
        self.lines = Pick(model, paint, lines, "auto", id="lines")
        inbox = [
            ("no", t("the pairs that are there now")),
            ("yes", t("an inbox: new pairs enter until it is stopped")),
        ]
        self.watch_folders = Pick(model, paint, inbox, "no", id="inbox")

    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        return [
            (t("sounds"), self.audio),
            (t("portraits"), self.image),
            (t("output"), self.output),
            (t("checkpoint"), self.checkpoint),
            (t("preset"), self.preset),
            (t("lines"), self.lines),
            (t("inbox"), self.watch_folders),
            (t("flags"), self.flags),
        ]

    def ready(self) -> None:
        said = t("A sound and a portrait of one name are a pair. Done items are not done again.")
        self.tell(said)
        self.audio.focus()

    def arguments(self) -> list[str]:
        flags = shlex.split(self.flags.value)
        out = ["--preset", self.preset.value, "--lines", self.lines.value]
        if self.watch_folders.value == "yes":
            out.append("--watch")
        if self.checkpoint.value.strip():
            out += ["--ckpt_dir", self.checkpoint.value.strip()]
        folders = (self.audio.value, self.image.value, self.output.value)
        return [*out, *flags, "--", *(folder.strip() for folder in folders)]

    def made(self, arguments: list[str]) -> dict[str, Any]:
        from console.commands.batch import spec_of

        spec, _remarks = spec_of(arguments)
        return spec.to_dict()
