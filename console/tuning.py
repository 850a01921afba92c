"""Values being tuned and what they would cost: pure planning on devices that were read once.

A :class:`Ground` is read on a thread (devices, checkpoint, portrait); after that each change of a
value is planned in milliseconds. No Textual here, and no words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from console.i18n import N_
from console.parts import Preview
from console.planning import (
    Hardware,
    clips_of,
    portrait_of,
    question_of,
    reading_of,
    sound_of,
)
from console.replanning import Way, fits_of
from engine.checkpoint.shapes import SHAPES
from engine.geometry import DEFAULT_FPS, blocks_per_clip, predicted_frames, snap_size
from engine.params import (
    GROUPS,
    PARAMETERS,
    BadValueError,
    Parameter,
    Request,
    parse,
    parse_size,
    presets,
)
from engine.placement import planner
from engine.placement.alternatives import title
from engine.placement.place import Question
from engine.placement.plan import Plan
from engine.placement.presets import Choice

VARIANTS: Final = 4
#: Clips of a short run that tries a variant.
PREVIEW_CLIPS: Final = 2
PLANNED_FOR: Final = N_("planned for")
#: The groups' words, for the catalogue.
GROUP_WORDS: Final = (
    N_("generation"), N_("placement"), N_("inputs"), N_("model files"), N_("output and watching"),
    N_("external command"),
)  # fmt: skip
#: What is planned for, where it is not what is here; no job has these.
HARDWARE: Final = (
    Parameter(
        "plan_devices", "int", PLANNED_FOR,
        N_("GPUs to plan for, 1 to 64, where they are not this host's. Default: the devices here."),
        minimum=1, maximum=64,
    ),
    Parameter(
        "plan_memory", "bytes", PLANNED_FOR,
        N_("Usable memory of each, e.g. 22.15GiB for a 24 GB card. Default: what is free here."),
        minimum=2**28,
    ),
    Parameter(
        "plan_shape", "choice", PLANNED_FOR,
        N_("A known model in place of the checkpoint's, to plan without its files."),
        choices=tuple(sorted(SHAPES)),
    ),
)  # fmt: skip
_PLAN_NAMES: Final = frozenset(p.name for p in HARDWARE)
#: Values that say which files and devices are read.
_READ: Final = (
    "image", "audio", "ckpt_dir", "t5_path", "vae_path", "wav2vec_path", "gpus", "host_memory",
    "gpu_memory_cap", *sorted(_PLAN_NAMES),
)  # fmt: skip
#: Sizes that keys go through; any other can be typed.
_SIZES: Final = ("384*256", "480*320", "576*320", "640*352", "688*368", "704*384", "832*480")


#: Every parameter that can be tuned, in the order it is shown.
TUNED: Final[tuple[Parameter, ...]] = (
    *HARDWARE,
    *(
        p
        for group in sorted(GROUPS, key=GROUP_WORDS.index)
        for p in PARAMETERS
        if p.group == group and not p.no_effect
    ),
)


@dataclass(frozen=True)
class Ground:
    """Devices, model, portrait and voice as they were read; ``question`` of the values read with.

    ``samples``: of the voice at 16 kHz, None where there is none to read.
    """

    question: Question
    portrait: tuple[int, int]
    samples: int | None = None

    def asked(self, request: Request) -> Question:
        """The question for other values on the same ground.

        Raises:
            ValueError: a size that is no frame.
        """
        size = snap_size(*parse_size(request.size), *self.portrait)
        clips = clips_of(request, self.samples)
        return dataclasses.replace(self.question, request=request, size=size, clips=clips)


@dataclass(frozen=True)
class Planned:
    """What values cost: question, choice and plan of one moment."""

    question: Question
    choice: Choice
    plan: Plan

    @property
    def block(self) -> float | None:
        """Seconds of a block; None where nothing alike was measured."""
        return self.plan.seconds_per_block

    @property
    def clip(self) -> float | None:
        """Seconds of a clip."""
        frames = self.question.request.infer_frames
        return None if self.block is None else self.block * blocks_per_clip(frames)

    @property
    def total(self) -> float | None:
        """Seconds of all clips."""
        return None if self.clip is None else self.clip * self.question.clips

    @property
    def frames(self) -> int:
        """Frames of the video, if the sound lasts where none is known."""
        clips = self.question.clips
        return predicted_frames(clips, clips, self.question.request.infer_frames)

    @property
    def length(self) -> float:
        """Seconds of the video, if the sound lasts where none is known."""
        return self.frames / DEFAULT_FPS

    @property
    def cut_short(self) -> bool:
        """Whether the sound ends before the clips that are asked for."""
        return self.question.clips < self.question.request.num_clip


@dataclass
class Variant:
    """One set of values beside others, and what is known of it.

    ``values`` are those that differ from the defaults. ``ways`` are plans that fit instead, None
    while they are looked for. ``job`` is that of its short run.
    """

    values: dict[str, Any] = field(default_factory=dict)
    planned: Planned | None = None
    problem: str = ""
    reading: bool = False
    ways: list[Way] | None = None
    around: dict[str, Plan] = field(default_factory=dict)  # a neighbouring value → its plan
    job: int | None = None
    tried: dict[str, Any] = field(default_factory=dict)  # the values of the short run
    frame: Preview | None = None
    psnr: float | None = None  # dB, against the first variant that was tried
    psnr_said: str = ""  # why there is none
    compared: tuple[int, int] | None = None  # the short runs it was made of: its own, the first's

    def value(self, parameter: Parameter) -> Any:
        return self.values.get(parameter.name, parameter.default)

    def copy(self) -> Variant:
        return Variant(dict(self.values), self.planned, self.problem, False, self.ways)


def request_of(values: Mapping[str, Any]) -> Request:
    """The request that values mean.

    Raises:
        ParamError: values that are refused.
    """
    return Request.from_dict({k: v for k, v in values.items() if k not in _PLAN_NAMES})


def ground_key(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Changes when devices or files have to be read again."""
    key: tuple[Any, ...] = tuple(values.get(name) for name in _READ)
    if values.get("plan_memory") is not None and values.get("plan_devices") is None:
        key += (values.get("num_gpus_dit"), values.get("enable_vae_parallel"))
    return key


def read_ground(values: Mapping[str, Any]) -> Ground:
    """Read devices, checkpoint and portrait; takes a while, so on a thread.

    Raises:
        CheckpointError, DeviceSelectionError, MediaError, ParamError, ValueError, OSError: files,
        devices or values that are not what the values say.
    """
    request = request_of(values)
    shape = values.get("plan_shape") or (None if request.ckpt_dir else "14b")
    hardware = Hardware(values.get("plan_devices"), values.get("plan_memory"))
    question = question_of(request, shape, hardware)
    return Ground(question, portrait_of(request), sound_of(request))


def planned(ground: Ground, values: Mapping[str, Any]) -> Planned:
    """What values cost on a ground: milliseconds.

    Raises:
        ParamError, ValueError: values that contradict each other, a size that is no frame.
    """
    question = ground.asked(request_of(values))
    choice, plan = planner.plan_of(question, reading_of(question))
    return Planned(question, choice, plan)


def ways_of(found: Planned) -> list[Way]:
    """What fits instead, nearest first; slower, so on a thread."""
    return [] if found.plan.fits else fits_of(found.question, found.choice)


#: Values that can contradict each other, or the devices; mode auto needs none of them.
_CUTS: Final = (
    *("variant", "num_gpus_dit", "ulysses_size", "enable_vae_parallel", "kv_home"),
    *("offload_model", "single_gpu", "dit_fsdp", "resident_layers"),
)


def ways_out(ground: Ground, values: Mapping[str, Any]) -> list[Way]:
    """What fits where the values cannot be planned: the work placed anew; nearest first."""
    changes: dict[str, Any] = {name: None for name in _CUTS if name in values}
    changes["mode"] = "auto"
    kept = {name: value for name, value in values.items() if name not in _CUTS}
    try:
        found = planned(ground, {**kept, "mode": "auto"})
    except ValueError:
        return []  # where it runs is not what is wrong
    if found.plan.fits:
        return [Way(title(found.plan), "--mode auto", changes, found.plan)]
    return [dataclasses.replace(way, changes={**changes, **way.changes}) for way in ways_of(found)]


def turned(parameter: Parameter, value: Any, by: int, ranks: int = 1) -> Any:
    """The next value of a parameter in a direction; None is its default.

    Args:
        value: the present one. ranks: that the plan has now, where a count of them is left open.

    Raises:
        BadValueError: this parameter is typed, not turned; or there is no next value.
    """
    options = _options(parameter)
    if options:
        at = options.index(value) if value in options else 0
        return options[(at + by) % len(options)]
    if parameter.kind == "size":
        return _next_size(str(value), by)
    if parameter.kind in ("int", "float", "bytes"):
        return parse(parameter, _number(parameter, value, by, ranks))
    raise BadValueError("is typed", "press Enter")


def _options(parameter: Parameter) -> Sequence[Any]:
    if parameter.kind == "bool":
        return (False, True) if parameter.default is not None else (None, True, False)
    if parameter.kind == "choice":
        kept = () if parameter.default is not None else (None,)
        return (*kept, *parameter.choices)
    return ()


def _number(parameter: Parameter, value: Any, by: int, ranks: int) -> float | int:
    if parameter.kind == "bytes":
        step = 1 << 30
        start = step if value is None else int(value) // step * step
        return max(start + by * step, step)
    if parameter.kind == "float":
        return round(float(value or 0) + by * 0.5, 3)
    if value is None:
        return ranks + by if parameter.name == "num_gpus_dit" else int(parameter.minimum or 0)
    step = parameter.multiple_of or (10 if parameter.name == "num_clip" and int(value) > 20 else 1)
    return int(value) + by * step


def _next_size(value: str, by: int) -> str:
    def area(size: str) -> int:
        width, height = parse_size(size)
        return width * height

    own = {str(preset.values["size"]) for preset in presets()}
    known = sorted({*_SIZES, *own, value}, key=lambda size: (area(size), size))
    at = known.index(value) + by
    if not 0 <= at < len(known):
        raise BadValueError("has no further known size", "press Enter and type one")
    return known[at]


def around(ground: Ground, values: Mapping[str, Any], parameter: Parameter) -> dict[str, Plan]:
    """Plans of the values next to a parameter's present one, by that value in words ("" where it
    is left open)."""
    if parameter.group not in ("generation", "placement") or parameter.name in _READ:
        return {}
    found: dict[str, Plan] = {}
    value = values.get(parameter.name, parameter.default)
    ranks = planned(ground, values).plan.world_size
    for by in (-1, 1):
        try:
            other = turned(parameter, value, by, ranks)
            plan = planned(ground, {**values, parameter.name: other}).plan
        except (ValueError, BadValueError):
            continue
        if other != value:
            found["" if other is None else str(other)] = plan
    return found


def differing(values: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``values`` is not as in ``first``; None where it is left to its default."""
    names = [p.name for p in TUNED if values.get(p.name) != first.get(p.name)]
    return {name: values.get(name) for name in names}


def kept_values(request: Mapping[str, Any]) -> dict[str, Any]:
    """What of a job's request is tuned and not at its default."""
    names = {p.name: p for p in TUNED if p.name not in ("output", "dump_latents")}
    return {
        name: value
        for name, value in request.items()
        if name in names and value is not None and value != names[name].default
    }


def sign_of(plan: Plan) -> tuple[str, str]:
    """Whether it fits, as a sign with its role; a question where nobody knows the memory."""
    if not plan.fits:
        return "✗", "state.act"
    return ("?", "state.watch") if fullest(plan)[1] is None else ("✓", "state.good")


def fullest(plan: Plan) -> tuple[int, int | None]:
    """Predicted and usable bytes of the device with least room."""
    device = max(
        plan.devices, key=lambda d: (d.predicted_bytes / (d.usable_bytes or 1), d.predicted_bytes)
    )
    return device.predicted_bytes, device.usable_bytes
