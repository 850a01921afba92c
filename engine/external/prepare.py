"""Everything that can be known of a command before it is started: words, inputs, devices, disk."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.external.fill import OURS, fill, fill_words, values_of, wanted
from engine.external.profile import Profile, from_command, load
from engine.media.lint import lint_inputs
from engine.messages import DeviceReading
from engine.parameters.problems import ParamError
from engine.parameters.request import Request
from engine.preflight import Machine, PreflightError
from engine.sentence import sentence
from engine.telemetry.devices import DeviceSelectionError, select_devices

#: Parameters that only avatop's own engine obeys; said where they were asked for.
_ENGINE_ONLY = ("mode", "variant", "kv_home", "kv_dtype", "dump_latents", "spike_threshold")


@dataclass(frozen=True)
class PreparedCommand:
    """A command that may start. ``devices`` are its GPUs; empty on a host without."""

    request: Request
    profile: Profile
    devices: tuple[DeviceReading, ...]
    remarks: tuple[str, ...]

    @property
    def leases(self) -> frozenset[str]:
        """What the job occupies: its GPUs by UUID, or the CPU as a whole."""
        return frozenset(device.uuid for device in self.devices) or frozenset({"cpu"})

    @property
    def mode(self) -> str:
        """The profile's name."""
        return self.profile.name

    def plan_dict(self) -> None:
        """Nothing of it is placed by us."""

    def fields(self) -> dict[str, Any]:
        """What it says in a job's row."""
        return {
            "kind": "command",
            "mode": self.profile.name,
            "size": self.request.size,
            "clips": self.request.num_clip,
            "steps": self.request.sample_steps,
            "ranks": max(1, len(self.devices)),
        }

    def words(self, ours: Mapping[str, Any]) -> tuple[str, ...]:
        """The argument list; ``ours`` are the values of ``fill.OURS`` and the output.

        Raises:
            ParamError: a placeholder that is none or not set.
        """
        return fill_words(self.profile.argv, values_of(self.request, ours))

    def workdir(self, values: Mapping[str, str]) -> Path:
        """The folder the program runs in: the profile's, or where avatop was called."""
        return Path(fill(self.profile.workdir or self.request.workdir or ".", values)).expanduser()


def prepare_command(request: Request, machine: Machine) -> PreparedCommand:
    """Check an external job.

    Raises:
        PreflightError: with everything the user needs to know in one message.
    """
    try:
        profile = from_command(request.command) if request.command else load(str(request.profile))
        devices = _devices(request, profile, machine.devices)
        prepared = PreparedCommand(request, profile, devices, _remarks(request, profile, devices))
        _try_words(prepared)
    except (ParamError, DeviceSelectionError) as error:
        raise PreflightError(str(error)) from error
    _inputs(request)
    return prepared


def _try_words(prepared: PreparedCommand) -> None:
    """Fill everything once, so that what is missing is told before anything is queued."""
    ours = dict.fromkeys((*OURS, "output"), "0")
    values = values_of(prepared.request, ours)
    prepared.words(ours)
    profile = prepared.profile
    fill_words(profile.stop, values)
    for text in profile.env.values():
        fill(text, values)
    folder = prepared.workdir(values)
    if not wanted((profile.workdir or "",)) and not folder.is_dir():
        raise PreflightError(
            sentence(
                "profile {name}: its workdir {folder} is no folder.",
                name=profile.name,
                folder=folder,
            )
        )


def _devices(
    request: Request, profile: Profile, readings: Sequence[DeviceReading]
) -> tuple[DeviceReading, ...]:
    """GPUs for the program: those that were chosen, or as many free ones as it takes."""
    if request.gpus == "cpu" or profile.gpus == 0:
        return ()
    picked = select_devices([r for r in readings if r.error is None], request.gpus, os.environ)
    need = profile.gpus
    if need is None or not readings:
        if need and request.gpus is None:
            raise PreflightError(
                sentence(
                    "profile {name} takes {need} GPUs, this host has none.",
                    name=profile.name,
                    need=need,
                ),
                "refused",
            )
        return tuple(picked)
    if request.gpus is None:
        # The emptiest first: a GPU that others fill would only fail later.
        picked = sorted(picked, key=lambda r: r.memory_used or 0)[:need]
    if len(picked) != need:
        raise PreflightError(
            sentence(
                "profile {name} takes {need} GPUs, {picked} are here or chosen.",
                name=profile.name,
                need=need,
                picked=len(picked),
            ),
            "refused",
        )
    return tuple(sorted(picked, key=lambda r: r.index))


def _inputs(request: Request) -> None:
    """Portrait and voice are looked at where both are given; a program may need neither."""
    if request.image is None or request.audio is None:
        return
    lint = lint_inputs(
        Path(request.image),
        Path(request.audio),
        request.prompt,
        infer_frames=request.infer_frames,
        accept_low_quality=request.accept_low_quality,
    )
    if lint.errors:
        raise PreflightError("\n".join(finding.sentence for finding in lint.errors))


def _remarks(
    request: Request, profile: Profile, devices: Sequence[DeviceReading]
) -> tuple[str, ...]:
    found = []
    given = [f"--{name}" for name in _ENGINE_ONLY if getattr(request, name) is not None]
    if given and not wanted(profile.argv) & {name.lstrip("-") for name in given}:
        found.append(
            sentence(
                "{given}: no effect on an external command but by its own script.",
                given=", ".join(given),
            )
        )
    if request.gpu_memory_cap is not None:
        found.append(
            sentence(
                "gpu_memory_cap is watched by NVML and the command is stopped when over; "
                "it is not enforced by an allocator."
            )
            if devices
            else sentence("gpu_memory_cap has no effect: this job has no GPU.")
        )
    return tuple(found)
