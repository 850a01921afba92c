"""Add a release: its name, its model, its cap, and any flag of ``avatop release add``."""

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


class ReleaseForm(Form):
    """The result is the version and the options of ``ReleaseCommand("add")``, or None when left.

    What is typed becomes the arguments of ``avatop release add``, so that both understand the same.
    """

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(
            model, paint, t("Keep a version of the model under a name"),
            t("Enter keeps it · Esc leaves · ↑ ↓ go between fields"),
        )  # fmt: skip
        last = max(model.jobs.values(), key=lambda job: job.id, default=None)
        checkpoint = str((last.request if last else {}).get("ckpt_dir") or "")
        self.version = entry("", t("1.1; letters, figures, points and dashes"), "version")
        self.checkpoint = entry(checkpoint, t("directory of the checkpoint"), "ckpt")
        self.lora = entry("", t("a safetensors file or a folder with one; empty: none"), "lora")
        self.cap = entry("", t("most memory of each rank: 22GiB; empty: no cap"), "cap")
        self.note = entry("", t("a remark for those who read the history"), "note")
        self.flags = entry("", t("any flag of avatop release add: --preset high"), "flags")

    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        return [
            (t("version"), self.version),
            (t("checkpoint"), self.checkpoint),
            (t("LoRA"), self.lora),
            (t("memory cap"), self.cap),
            (t("note"), self.note),
            (t("flags"), self.flags),
        ]

    def ready(self) -> None:
        said = t("Its files are hashed now; it never changes again, and gets no job until it is"
                 " rolled out.")  # fmt: skip
        self.about.say([("", "text"), (said, "soft")])
        self.version.focus()

    def on_input_changed(self) -> None:
        if self.problems.sentences:
            self.problems.say([])

    def arguments(self) -> list[str]:
        """What was typed, as the command line has it.

        Raises:
            ValueError: the flags cannot be taken apart.
        """
        out: list[str] = []
        lora, cap = self.lora.value.strip(), self.cap.value.strip()
        note, checkpoint = self.note.value.strip(), self.checkpoint.value.strip()
        if checkpoint:
            out += ["--ckpt_dir", checkpoint]
        if lora:
            out += ["--load_lora", "True", "--lora_path_dmd", lora]
        if cap:
            out += ["--gpu_memory_cap", cap]
        if note:
            out += ["--note", note]
        return [*out, *shlex.split(self.flags.value), "--", self.version.value.strip()]

    def send(self) -> None:
        if not self.version.value.strip():
            self._problem(t("{field} is required.", field=t("version")))
            return
        from console.commands.release import addition_of

        try:
            version, options, _remarks = addition_of(self.arguments())
        except (click.ClickException, ValueError) as error:
            text = error.format_message() if isinstance(error, click.ClickException) else str(error)
            self._problem(spoken(text))
        except click.exceptions.Exit:
            self._problem(t("All flags are told by: avatop release add --help"))
        else:
            self.dismiss((version, options))

    def _problem(self, text: str) -> None:
        self.problems.say([("", "text"), *((line, "state.act") for line in text.splitlines())])
