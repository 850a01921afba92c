"""What a request would cost here, or on hardware that is not here: for the verb, the tune screen
and the web door alike.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.checkpoint import layout as layouts
from engine.checkpoint.encoders import t5_tensors, wav2vec_tensors
from engine.checkpoint.expected import DiTShape
from engine.checkpoint.shapes import SHAPES
from engine.geometry import AUDIO_RATE, clips_in_audio, snap_size
from engine.jobs.paths import Places
from engine.media.findings import MediaError
from engine.offers import offers, without_waiting
from engine.params import ALL_MODES, ModeReading, Request, parse_size, read_mode
from engine.placement import planner
from engine.placement.hardware import DeviceOffer, HostOffer, hypothetical, parse_capability
from engine.placement.history import History
from engine.placement.place import Question, ask
from engine.telemetry.capability import capabilities
from engine.telemetry.devices import pick_source
from engine.telemetry.host import HostSource

#: The portrait's aspect where none is given.
_PORTRAIT: Final = (1920, 1080)


@dataclass(frozen=True)
class Hardware:
    """Hardware that need not exist; all None: this host's.

    ``gpu_memory`` is usable bytes per device, ``capability`` "X.Y", ``link`` GB/s.
    """

    devices: int | None = None
    gpu_memory: int | None = None
    capability: str | None = None
    link: float | None = None


def reading_of(question: Question) -> ModeReading:
    """The mode that a question's request means on its devices.

    Raises:
        ParamError: flags that contradict each other.
    """
    gpus = 0 if question.kind == "cpu" else len(question.devices)
    # Ranks that were asked for and are too many do not fit: a verdict, with what would.
    counted = None if question.request.num_gpus_dit is not None else gpus
    return read_mode(question.request, counted, available=ALL_MODES)


def answer_of(question: Question, *, measured_steady: int | None = None) -> planner.Answer:
    """The planner's answer to a question.

    Raises:
        ParamError, ValueError: flags that contradict each other, a size that is no frame.
    """
    reading = reading_of(question)
    return planner.answer(question, reading, measured_steady=measured_steady)


def question_of(
    request: Request, shape: str | None = None, hardware: Hardware | None = None
) -> Question:
    """What the planner is asked: the request, the model's shape, the devices as they are now.

    Raises:
        CheckpointError, DeviceSelectionError, MediaError, ValueError: files or devices that are not
        what the request says.
    """
    config, vae, encoders = _model(request, shape)
    offered, host = _hardware(request, hardware or Hardware())
    return ask(
        request,
        config,
        offered,
        size=snap_size(*parse_size(request.size), *portrait_of(request)),
        clips=clips_of(request, sound_of(request)),
        vae_file_bytes=vae,
        encoder_file_bytes=encoders,
        host=host,
        history=History(Places.of().history).corrections(),
    )


def portrait_of(request: Request) -> tuple[int, int]:
    """Width and height of the portrait, which gives the frame its aspect.

    Raises:
        MediaError: no readable picture.
    """
    if request.image is None:
        return _PORTRAIT
    from engine.media.image import image_info  # numpy: a page opens without it

    info = image_info(Path(request.image))
    return info.width, info.height


def sound_of(request: Request) -> int | None:
    """Samples of the voice at 16 kHz, by its header; None where none is named or can be read."""
    if request.audio is None:
        return None
    from engine.media.audio import audio_info  # the codecs' libraries: a page opens without them

    try:
        seconds = audio_info(Path(request.audio)).seconds
    except MediaError:
        return None  # who launches it is told
    return None if seconds is None else int(seconds * AUDIO_RATE)


def clips_of(request: Request, samples: int | None) -> int:
    """Clips that will be made: those asked for, as far as the voice carries them."""
    if samples is None:
        return request.num_clip
    return max(1, min(request.num_clip, clips_in_audio(samples, request.infer_frames)))


def _model(request: Request, shape: str | None) -> tuple[DiTShape, int | None, int | None]:
    """The DiT's shape, and bytes of the VAE's and of the encoders' files."""
    if shape is not None:
        known = SHAPES[shape]
        text = 2 * sum(math.prod(size) for size in t5_tensors(known.t5).values())
        speech = 4 * sum(math.prod(size) for size in wav2vec_tensors(known.wav2vec).values())
        vae = None if shape == "14b" else known.vae.dim**2 * 507_609_880 // 96**2
        return DiTShape.from_config(known.dit_config), vae, text + speech
    found = layouts.find(
        str(request.ckpt_dir),
        t5_path=request.t5_path,
        vae_path=request.vae_path,
        wav2vec_path=request.wav2vec_path,
    )
    encoders = [path.stat().st_size for path in (found.t5, found.wav2vec_weights()) if path]
    vae = found.vae.stat().st_size if found.vae else None
    where = str(found.config_file)
    return DiTShape.from_config(found.config, where), vae, sum(encoders) or None


def _hardware(request: Request, asked: Hardware) -> tuple[list[DeviceOffer], HostOffer]:
    capability = None if asked.capability is None else parse_capability(asked.capability)
    link = None if asked.link is None else asked.link * 1e9
    if asked.devices is not None or asked.gpu_memory is not None:
        usable, cap = asked.gpu_memory, request.gpu_memory_cap
        if cap is not None:
            usable = cap if usable is None else min(cap, usable)
        offered = hypothetical(
            asked.devices or (request.num_gpus_dit or 1) + request.enable_vae_parallel,
            usable,
            capability=capability,
            link_bytes_per_second=link,
        )
        return offered, HostOffer(request.host_memory)
    total, used = _host()
    free = None if total is None or used is None else total - used
    free = request.host_memory or free
    picked = pick_source()
    try:
        readings = picked.source.read()
    finally:
        picked.source.close()
    gpus = [without_waiting(r) for r in readings if picked.source.name != "host"]
    offered = offers(
        gpus,
        request.gpus,
        os.environ,
        host_total=total,
        host_available=free,
        cap=request.gpu_memory_cap,
    )
    known = capabilities(d.uuid for d in offered if d.uuid) if gpus else {}
    offered = [
        dataclasses.replace(
            device,
            capability=capability or known.get(device.uuid or ""),
            link_bytes_per_second=link,
        )
        for device in offered
    ]
    return offered, HostOffer(free)


def _host() -> tuple[int | None, int | None]:
    """Memory that this process may use and what is used of it; its cgroup's limit counts."""
    source = HostSource()
    try:
        reading = source.read()[0]
    finally:
        source.close()
    return reading.memory_total, reading.memory_used
