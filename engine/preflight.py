"""Everything that can be known before a device is touched: inputs, checkpoint, plan, disk.

Synchronous and free of side effects; the engine calls it in a thread.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypedDict

from engine.checkpoint import demonstration
from engine.checkpoint import layout as layouts
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.layout import Layout
from engine.checkpoint.verify import verify
from engine.geometry import DEFAULT_FPS, Forecast, blocks_per_clip, forecast
from engine.media.lint import Lint, lint_inputs
from engine.messages import DeviceReading
from engine.offers import offers
from engine.parameters.modes import read_mode
from engine.parameters.problems import ParamError
from engine.parameters.request import Request
from engine.placement.alternatives import Alternative, alternatives
from engine.placement.calibration import Corrections
from engine.placement.hardware import DeviceOffer, HostOffer
from engine.placement.hostmem import DISK_BITS_PER_PIXEL
from engine.placement.nearest import choice_of_plan
from engine.placement.place import Question, ask
from engine.placement.plan import Plan
from engine.placement.solve import solve
from engine.sentence import joined, sentence
from engine.telemetry.devices import DeviceSelectionError

#: Free bytes to leave on a disk.
DISK_RESERVE: Final = 64 << 20
#: Plans that a refusal names in the place of the one that was asked for.
_NEAREST: Final = 3


class PreflightError(Exception):
    """A job that must not start. ``kind``: the input is bad, or a plan or a guard refuses."""

    def __init__(self, message: str, kind: Literal["bad_input", "refused"] = "bad_input") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Machine:
    """What the host offers at this moment. Bytes; ``None`` where unknown."""

    devices: tuple[DeviceReading, ...] = ()
    host_total: int | None = None
    host_available: int | None = None
    history: Corrections | None = None  # what earlier runs teach the plan
    capabilities: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # of GPUs, by UUID
    drained: frozenset[str] = frozenset()  # UUIDs of devices that get no new work


class Work(Protocol):
    """A checked job, whoever does its work: our ranks (``Prepared``) or another program."""

    @property
    def request(self) -> Request: ...
    @property
    def remarks(self) -> tuple[str, ...]: ...
    @property
    def leases(self) -> frozenset[str]:
        """What the job occupies: GPUs by UUID, or the CPU as a whole."""

    @property
    def mode(self) -> str: ...
    def plan_dict(self) -> dict[str, Any] | None:
        """``Plan.to_dict``; None where nothing is placed by us."""

    def fields(self) -> dict[str, Any]:
        """What it says in a job's row."""


@dataclass(frozen=True)
class Prepared:
    """A job that may start on our own ranks."""

    request: Request
    layout: Layout
    plan: Plan
    forecast: Forecast
    remarks: tuple[str, ...]

    @property
    def blocks(self) -> int:
        """Blocks of the whole job."""
        return self.forecast.clips * blocks_per_clip(self.request.infer_frames)

    @property
    def mode(self) -> str:
        """The plan's mode."""
        return self.plan.mode

    def plan_dict(self) -> dict[str, Any]:
        """The plan as JSON."""
        return self.plan.to_dict()

    def fields(self) -> dict[str, Any]:
        """What it says in a job's row."""
        return {
            "mode": self.plan.mode,
            "size": self.forecast.size,
            "clips": self.forecast.clips,
            "steps": self.plan.sample_steps,
            "ranks": self.plan.world_size,
            "plan": self.plan.to_dict(),
        }

    @property
    def leases(self) -> frozenset[str]:
        """What the job occupies: GPUs by UUID, or the CPU as a whole."""
        return frozenset(
            d.uuid or d.device if d.device.startswith("cuda") else "cpu" for d in self.plan.devices
        )

    def clip_frames(self, clip: int) -> int:
        """Video frames of one clip's segment: the decoder swallows the first three."""
        frames = self.request.infer_frames
        whole = frames * self.forecast.clips - self.forecast.frames
        return frames - whole if clip == 0 else frames


def prepare(
    request: Request, machine: Machine, folders: Sequence[Path] = (), *, launch: bool = True
) -> Prepared:
    """Check a request against its files and this host.

    Args:
        folders: where the job will write (they need not exist yet).
        launch: ranks are to start, so the plan has to fit; else clips are only joined.

    Raises:
        PreflightError: with everything the user needs to know in one message.
    """
    if not (request.image and request.audio and request.ckpt_dir):
        missing = [n for n in ("image", "audio", "ckpt_dir") if not getattr(request, n)]
        raise PreflightError(sentence("--{missing}: is missing.", missing=missing[0]))
    try:
        layout = _layout(request)
        lint = _lint(request, layout)
        remarks = [finding.sentence for finding in lint.warnings]
        remarks += demonstration.remarks(layout.config, request.size, request.sample_steps)
        seen = _forecast(request, layout, lint)
        plan = _plan(request, layout, seen, machine)
    except (CheckpointError, ParamError, DeviceSelectionError) as error:
        raise PreflightError(str(error)) from error
    if launch and not plan.fits:
        question = ask(
            request, layout.config, _devices(request, machine),
            **_known(request, layout, seen, machine),
        )  # fmt: skip
        raise PreflightError(refusal(question, plan), "refused")
    _check_disk(seen, folders)
    return Prepared(request, layout, plan, seen, (*seen.remarks, *remarks, *plan.remarks))


def refusal(question: Question, plan: Plan) -> str:
    """Why a plan cannot be launched, and the nearest that can be, as flags."""
    told = {"mode": plan.mode, "reasons": joined(plan.reasons)}
    why = (
        sentence("mode {mode} does not fit: {reasons}.", **told)
        if plan.possible
        else sentence("mode {mode} cannot run here: {reasons}.", **told)
    )
    found = [one for one in alternatives(question, choice_of_plan(question, plan)) if one.built]
    ways = [_way(one) for one in found[:_NEAREST]]
    near = (
        sentence("What would fit, nearest first: {ways}.", ways=joined(ways))
        if ways
        else sentence("Nothing that was tried fits, not even smaller frames.")
    )
    return joined((why, near), " ")


def _way(one: Alternative) -> str:
    if not one.alters_output:
        return one.flags
    what = joined([sentence(name) for name in one.alters_output], ", ")
    return sentence("{flags} (changes the output: {what})", flags=one.flags, what=what)


def _layout(request: Request) -> Layout:
    """The checkpoint's files, every header read: a damaged shard is found before a GPU is."""
    assert request.ckpt_dir is not None
    layout = layouts.find(
        request.ckpt_dir,
        t5_path=request.t5_path,
        vae_path=request.vae_path,
        wav2vec_path=request.wav2vec_path,
        lora_path=request.lora_path_dmd if request.load_lora else None,
    )
    layout.require(*layouts.REQUIRED, *(("lora",) if request.load_lora else ()))
    checked = layout if request.load_lora else dataclasses.replace(layout, lora=None)
    errors = [f for f in verify(checked, headers_only=True).findings if f.severity == "error"]
    if errors:
        told: str = sentence("{where}: {what}", where=layout.root, what=errors[0].line())
        if len(errors) > 1:
            told = sentence(
                "{finding} ({count} more: avatop ckpt verify)",
                finding=told,
                count=len(errors) - 1,
            )
        raise PreflightError(told)
    return checked


def _lint(request: Request, layout: Layout) -> Lint:
    assert request.image is not None
    assert request.audio is not None
    lint = lint_inputs(
        Path(request.image),
        Path(request.audio),
        request.prompt,
        infer_frames=request.infer_frames,
        fps=_fps(layout),
        count_tokens=_token_counter(layout),
        accept_low_quality=request.accept_low_quality,
    )
    if lint.errors:
        raise PreflightError("\n".join(finding.sentence for finding in lint.errors))
    return lint


def _token_counter(layout: Layout) -> Callable[[str], int] | None:
    if layout.tokenizer is None:
        return None
    from tokenizers import Tokenizer

    path = layout.tokenizer / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises nothing narrower
        raise CheckpointError(
            sentence("the tokenizer cannot be read"),
            where=str(path),
            why=str(error)[:200],
            remedy=sentence("download it from the model's source again"),
        ) from error
    return lambda text: len(tokenizer.encode(text).ids)


def _forecast(request: Request, layout: Layout, lint: Lint) -> Forecast:
    facts = lint.facts
    assert facts.image_wh is not None  # unreadable inputs are errors of the lint
    assert facts.audio_samples is not None
    return forecast(
        size=request.size,
        image_wh=facts.image_wh,
        audio_samples=facts.audio_samples,
        num_clip=request.num_clip,
        infer_frames=request.infer_frames,
        fps=_fps(layout),
    )


def _fps(layout: Layout) -> int:
    fps = layout.config.get("sample_fps", DEFAULT_FPS)
    if not isinstance(fps, int) or isinstance(fps, bool) or not 1 <= fps <= 240:
        raise CheckpointError(
            sentence("sample_fps is no frame rate"),
            where=str(layout.config_file),
            why=sentence("it says {rate}", rate=str(fps)[:40]),
            remedy=sentence("download config.json from the model's source again"),
        )
    return fps


def _plan(request: Request, layout: Layout, seen: Forecast, machine: Machine) -> Plan:
    devices = _devices(request, machine)
    gpus = 0 if devices[0].kind == "cpu" else len(devices)
    known = _known(request, layout, seen, machine)
    plan = solve(request, read_mode(request, gpus), layout.config, devices, **known)
    drained = [f"GPU {r.index}" for r in machine.devices if r.uuid in machine.drained]
    if not drained:
        return plan
    told = sentence("{drained}: drained, so left out.", drained=", ".join(drained))
    return dataclasses.replace(plan, remarks=(*plan.remarks, told))


def question_of(prepared: Prepared, machine: Machine) -> Question:
    """What a prepared job asks of the planner, on this host as it is now.

    Raises:
        DeviceSelectionError: a device that it names is gone.
    """
    request, layout = prepared.request, prepared.layout
    known = _known(request, layout, prepared.forecast, machine)
    return ask(request, layout.config, _devices(request, machine), **known)


def _devices(request: Request, machine: Machine) -> list[DeviceOffer]:
    free = request.host_memory or machine.host_available
    devices = offers(
        _undrained(request, machine),
        request.gpus,
        os.environ,
        host_total=machine.host_total,
        host_available=free,
        cap=request.gpu_memory_cap,
    )
    gone = [d.device for d in devices if d.uuid in machine.drained]
    if devices[0].kind == "cpu":
        gone += [
            r.name for r in machine.devices if r.source == "host" and r.uuid in machine.drained
        ]
    if gone:
        raise PreflightError(
            sentence(
                "{gone}: drained, it gets no new work until it is given back.", gone=", ".join(gone)
            ),
            "refused",
        )
    return [
        dataclasses.replace(d, capability=machine.capabilities.get(d.uuid or "")) for d in devices
    ]


def _undrained(request: Request, machine: Machine) -> Sequence[DeviceReading]:
    """The devices to choose from: drained GPUs only where the request names devices itself."""
    if request.gpus is not None or not machine.drained:
        return machine.devices
    left = [r for r in machine.devices if r.source == "host" or r.uuid not in machine.drained]
    gpus = [r for r in machine.devices if r.source != "host"]
    if gpus and not any(r.source != "host" for r in left):
        raise PreflightError(sentence("every GPU is drained: none gets new work."), "refused")
    return left


def _known(request: Request, layout: Layout, seen: Forecast, machine: Machine) -> _Known:
    encoders = [layout.t5, layout.wav2vec_weights()]
    return _Known(
        size=(seen.width, seen.height),
        clips=seen.clips,
        vae_file_bytes=_bytes(layout.vae),
        encoder_file_bytes=sum(_bytes(path) or 0 for path in encoders) or None,
        host=HostOffer(request.host_memory or machine.host_available),
        history=machine.history,
    )


class _Known(TypedDict):
    """What is known of a job besides its request and devices."""

    size: tuple[int, int]
    clips: int
    vae_file_bytes: int | None
    encoder_file_bytes: int | None
    host: HostOffer
    history: Corrections | None


def _bytes(path: Path | None) -> int | None:
    return None if path is None else path.stat().st_size


def _check_disk(seen: Forecast, folders: Sequence[Path]) -> None:
    """Segments and the joined file must fit; refused with the arithmetic."""
    video = int(seen.width * seen.height * seen.frames * DISK_BITS_PER_PIXEL / 8)
    needed: dict[int, tuple[Path, int]] = {}
    for folder in folders:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        if not there.is_dir():
            raise PreflightError(
                sentence("{there}: is no folder. Choose another --output.", there=there), "refused"
            )
        device = there.stat().st_dev
        _, already = needed.get(device, (there, DISK_RESERVE))
        needed[device] = (there, already + video)
    for there, size in needed.values():
        free = shutil.disk_usage(there).free
        if free < size:
            raise PreflightError(
                sentence(
                    "{there}: {free:.0f} MiB are free on its disk, the video may take "
                    "{size:.0f} MiB. Free some, or choose another --output.",
                    there=there,
                    free=free / 2**20,
                    size=size / 2**20,
                ),
                "refused",
            )
