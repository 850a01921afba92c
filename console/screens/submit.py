"""Submit a job: a preset, the inputs, and what one changes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from textual.timer import Timer
from textual.widgets import Input
from textual.worker import Worker, WorkerState

from console import format as fmt
from console.i18n import t
from console.screens.form import Form, Pick, entry
from console.screens.submit_plan import Foresight, Seen
from console.spoken import spoken
from console.state import Model
from console.widgets.paint import Paint
from engine import params
from engine.geometry import DEFAULT_FPS, predicted_frames

#: Field → parameter of the request (engine.params).
PARAMETERS = {
    "image": "image", "audio": "audio", "prompt": "prompt", "ckpt": "ckpt_dir", "size": "size",
    "clips": "num_clip", "steps": "sample_steps", "mode": "mode", "ranks": "num_gpus_dit",
}  # fmt: skip
AUTO = "auto"
#: Seconds without a key before the cost is reckoned.
REST: Final = 0.25
#: Cells of a sentence about it where the screen has fewer rows than this, so that all is seen.
ROOMY: Final = 30
_TIGHT: Final = 150


class SubmitForm(Form):
    """The result is ``Request.to_dict()``, or None when left.

    Fields start from the job submitted last, so that a second one takes two keys. What is left
    empty comes from the preset, the environment and the defaults, in the command line's order.

    Args:
        start: parameters to start from instead, all of them; those without a field are kept. They
            take no preset: what is emptied is the default.
        title: another than that of a new job.
    """

    def __init__(
        self, model: Model, paint: Paint, environ: Mapping[str, str],
        start: Mapping[str, Any] | None = None, title: str = "",
    ) -> None:  # fmt: skip
        super().__init__(
            model, paint, title or t("Submit a job"),
            t("Enter submits · Esc leaves · ↑ ↓ go between fields · ← → change a choice"),
        )  # fmt: skip
        self.environ = environ
        paint = self.paint
        last = max(model.jobs.values(), key=lambda job: job.id, default=None)
        before = (last.request if last else {}) if start is None else start
        self.kept = {
            name: value
            for name, value in (start or {}).items()
            if name not in PARAMETERS.values()
            and name in params.BY_NAME
            and value is not None
            and value != params.BY_NAME[name].default
        }
        presets = params.presets()
        self._checked: dict[str, Any] = {}
        self.foresight = Foresight(environ)
        self.foreseen = Seen()
        self._rest: Timer | None = None
        self.presets = {preset.name: preset for preset in presets}
        self.copies = start is not None
        self.preset = Pick(
            model,
            paint,
            [(p.name, spoken(p.purpose)) for p in presets],
            presets[0].name,
            id="preset",
        )
        modes = [(AUTO, t("what the devices and flags mean"))]
        modes += [(mode, "") for mode in params.MODES_NOW]
        asked = before.get("mode") or AUTO
        self.mode = Pick(model, paint, modes, str(asked), id="mode")
        hints = {
            "image": t("portrait, at least 512×512"), "audio": t("speech, any sample rate"),
            "prompt": t("empty: a neutral talking head"), "ckpt": t("directory of the checkpoint"),
            "ranks": t("empty: as many as the mode wants"),
        }  # fmt: skip
        kept = ("image", "audio", "prompt", "ckpt")
        self.inputs: dict[str, Input] = {}
        for name, parameter in PARAMETERS.items():
            if name == "mode":
                continue
            value = before.get(parameter) if name in kept or start is not None else None
            if name == "prompt" and value == params.DEFAULT_PROMPT:
                value = None
            if name == "ranks":
                value = before.get(parameter)
            text = "" if value is None else str(value)
            self.inputs[name] = entry(text, paint.text(hints.get(name, "")), name)

    def fields(self) -> Sequence[tuple[str, Input | Pick]]:
        fields: dict[str, Input | Pick] = {"mode": self.mode, **self.inputs}
        asked = [(name, fields[name]) for name in PARAMETERS]
        return asked if self.copies else [("preset", self.preset), *asked]

    @property
    def _by(self) -> str | None:
        """The preset that is chosen; None where another job's values are the ground."""
        return None if self.copies else self.preset.value

    def _ground(self, parameter: str) -> Any:
        """What a parameter is where nothing is typed."""
        given = {} if self._by is None else self.presets[self._by].values
        return given.get(parameter, params.BY_NAME[parameter].default)

    def ready(self) -> None:
        self._preset_hints()
        (self.inputs["image"] if self.copies else self.preset).focus()

    def on_pick_changed(self) -> None:
        self._preset_hints()

    def on_input_changed(self) -> None:
        if self.problems.sentences and self.values() != self._checked:
            self.problems.say([])
        self._changed()

    def _preset_hints(self) -> None:
        """Show what the preset brings where nothing is typed."""
        for name in ("size", "clips", "steps"):
            value = self._ground(PARAMETERS[name])
            self.inputs[name].placeholder = (
                t("{value}, the default", value=value)
                if self.copies
                else t("{value}, from the preset", value=value)
            )
        self._changed()

    def _changed(self) -> None:
        """The length at once; what it costs once keys rest, as files and devices are read."""
        self.foreseen = Seen()
        self._say_length()
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(REST, self._foresee)

    def _foresee(self) -> None:
        values, preset = self.values(), self._by

        def look() -> Seen:
            return self.foresight.look(values, preset)

        self.run_worker(look, thread=True, exit_on_error=False, group="plan", exclusive=True)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """What it costs is known."""
        worker = event.worker
        if event.state is WorkerState.SUCCESS and isinstance(worker.result, Seen):
            self.foreseen = worker.result
            self._say_length()

    def _say_length(self) -> None:
        """How long the video becomes with as many clips as are typed, or the preset's.

        Where there are few rows it makes room for what is wrong.
        """
        typed = self.inputs["clips"].value.strip()
        clips = int(typed) if typed.isdecimal() else int(self._ground("num_clip"))
        each = self.kept.get("infer_frames", params.BY_NAME["infer_frames"].default)
        frames = predicted_frames(clips, clips, int(each))
        said = t(
            "If the sound lasts: {frames} frames, {seconds} s at 25 fps.",
            frames=f"{frames:,}", seconds=f"{frames / DEFAULT_FPS:.1f}",
        )  # fmt: skip
        length = self.foreseen.length or (said, "soft")
        most = _TIGHT if self.app.size.height < ROOMY else fmt.LONGEST
        seen = [(fmt.short(text, most), role) for text, role in self.foreseen.lines]
        tight = self.app.size.height < ROOMY and self.problems.sentences
        self.about.say([] if tight else [("", "text"), length, *seen])

    def values(self) -> dict[str, Any]:
        """What was typed, under the parameters' names."""
        typed = {PARAMETERS[name]: field.value.strip() for name, field in self.inputs.items()}
        flags: dict[str, Any] = {name: text for name, text in typed.items() if text}
        flags = {**self.kept, **flags}
        if self.mode.value != AUTO:
            flags["mode"] = self.mode.value
        return flags

    def _sentence(self, problem: params.Problem) -> str:
        """A problem in the words of this form."""
        name = problem.parameter.removeprefix("--")
        field = next((f for f, parameter in PARAMETERS.items() if parameter == name), None)
        if field is None:
            return spoken(problem.text)
        if problem.reason == "is required":
            return t("{field} is required.", field=field)
        said = f"{field}: {spoken(problem.reason)}."
        advice = spoken(problem.suggestion)
        end = "" if advice.endswith("?") else "."
        return f"{said} {advice[0].upper()}{advice[1:]}{end}" if advice else said

    def send(self) -> None:
        self._checked = self.values()
        try:
            resolved = params.resolve(self._checked, self.environ, preset=self._by)
        except params.ParamError as error:
            said = [(self._sentence(problem), "state.act") for problem in error.problems]
            self.problems.say([("", "text"), *said])
            self._say_length()
            return
        self.dismiss(resolved.request.to_dict())
