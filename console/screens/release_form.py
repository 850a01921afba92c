"""Add a release: its name, its model, its cap, and any flag of ``avatop release add``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from textual.widgets import Input

from console.i18n import N_, t
from console.screens.form import Pick, entry
from console.screens.verb_form import VerbForm
from console.state import Model
from console.widgets.paint import Paint


class ReleaseForm(VerbForm):
    """The result is the version and the options of ``ReleaseCommand("add")``, or None when left.

    What is typed becomes the arguments of ``avatop release add``.
    """

    REQUIRED = 1
    ALL_FLAGS = N_("All flags are told by: avatop release add --help")

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
        self.tell(said)
        self.version.focus()

    def arguments(self) -> list[str]:
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

    def made(self, arguments: list[str]) -> tuple[str, dict[str, Any]]:
        from console.commands.release import addition_of

        version, options, _remarks = addition_of(arguments)
        return version, options
