"""Begin a batch: its folders, and any flag of ``avatop batch``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import click
from textual.widgets import Input

from console.i18n import t
from console.screens.form import Form, Pick, entry
from console.spoken import spoken
from console.state import Model
from console.widgets.paint import Paint
from engine import params


class BatchForm(Form):
    """The result is ``BatchSpec.to_dict()``, or None when left.

    What is typed becomes the arguments of ``avatop batch``, so that both understand the same.
    """

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
        self.about.say([("", "text"), (said, "soft")])
        self.audio.focus()

    def on_input_changed(self) -> None:
        if self.problems.sentences:
            self.problems.say([])

    def arguments(self) -> list[str]:
        """What was typed, as the command line has it.

        Raises:
            ValueError: the flags cannot be taken apart.
        """
        flags = shlex.split(self.flags.value)
        out = ["--preset", self.preset.value, "--lines", self.lines.value]
        if self.watch_folders.value == "yes":
            out.append("--watch")
        if self.checkpoint.value.strip():
            out += ["--ckpt_dir", self.checkpoint.value.strip()]
        folders = (self.audio.value, self.image.value, self.output.value)
        return [*out, *flags, "--", *(folder.strip() for folder in folders)]

    def send(self) -> None:
        missing = [
            label for label, field in self.fields()[:3]
            if isinstance(field, Input) and not field.value.strip()
        ]  # fmt: skip
        if missing:
            self._problem(t("{field} is required.", field=missing[0]))
            return
        from console.commands.batch import spec_of

        try:
            spec, _remarks = spec_of(self.arguments())
        except (click.ClickException, ValueError) as error:
            text = error.format_message() if isinstance(error, click.ClickException) else str(error)
            self._problem(spoken(text))
        except click.exceptions.Exit:
            self._problem(t("All flags are told by: avatop batch start --help"))
        else:
            self.dismiss(spec.to_dict())

    def _problem(self, text: str) -> None:
        self.problems.say([("", "text"), *((line, "state.act") for line in text.splitlines())])
