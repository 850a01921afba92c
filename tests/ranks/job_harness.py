"""A whole job on N rank processes without an engine: reports are collected, not sent."""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
import wave
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from engine.checkpoint.layout import find
from engine.geometry import forecast
from engine.guard.ports import reserve
from engine.media.image import image_info
from engine.parameters.modes import ModeReading
from engine.parameters.request import Request
from engine.placement.solve import DeviceOffer, solve
from engine.ranks.protocol import RankSpec
from tests.forks import forks
from tests.tiny import tiny_ckpt

CKPT = tiny_ckpt()
RATE = 16_000


def portrait(path: Path) -> Path:
    """A drawn face, 512×512."""
    picture = Image.new("RGB", (512, 512), (40, 90, 140))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((130, 90, 380, 420), fill=(230, 190, 160))
    pen.ellipse((190, 200, 220, 230), fill=(20, 20, 20))
    pen.ellipse((290, 200, 320, 230), fill=(20, 20, 20))
    picture.save(path)
    return path


def speech(path: Path, seconds: float) -> Path:
    """A humming voice with pauses."""
    t = np.arange(int(seconds * RATE)) / RATE
    sound = 0.4 * np.sin(2 * np.pi * 140 * t) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def specs(
    folder: Path, mode: str, ranks: int = 1, *, vae: bool = False, device: str = "cpu", **ask: Any
) -> list[RankSpec]:
    """One specification per rank; ``ask`` are parameters of the request."""
    seconds = ask.pop("seconds", 1.9)
    request = Request(
        image=str(portrait(folder / "face.png")),
        audio=str(speech(folder / "voice.wav", seconds)),
        ckpt_dir=str(CKPT),
        **{"size": "64*64", "num_clip": 2, "infer_frames": 24, "mode": mode, **ask},
    )
    layout = find(CKPT)
    info = image_info(Path(str(request.image)))
    seen = forecast(
        size=request.size,
        image_wh=(info.width, info.height),
        audio_samples=int(seconds * RATE),
        num_clip=request.num_clip,
        infer_frames=request.infer_frames,
    )
    offers = [
        DeviceOffer("cpu") if device == "cpu" else DeviceOffer(f"cuda:{n}")
        for n in range(ranks + vae)
    ]
    plan = solve(
        request,
        ModeReading(mode, ranks + vae, ranks, vae),
        layout.config,
        offers,
        size=(seen.width, seen.height),
        clips=seen.clips,
        vae_file_bytes=layout.vae.stat().st_size if layout.vae else None,
    )
    port = reserve()
    segments = folder / f"segments-{mode}-{ranks}-{vae}"
    segments.mkdir(exist_ok=True)
    try:
        return [
            RankSpec(
                job=1,
                rank=planned.rank,
                world_size=plan.world_size,
                device=planned.device,
                backend="gloo" if device == "cpu" else "nccl",
                master_addr="127.0.0.1",
                master_port=port.number,
                request=request.to_dict(),
                plan=plan.to_dict(),
                layout=layout.paths(),
                segment_dir=str(segments),
                cache_dir=str(folder / "cache"),
                dump_latents=request.dump_latents,
            )
            for planned in plan.devices
        ]
    finally:
        port.release()


def keep_none(every: list[RankSpec]) -> list[RankSpec]:
    """The same job with every layer streamed."""
    return [
        dataclasses.replace(
            spec,
            plan={**spec.plan, "weights": {**spec.plan["weights"], "resident_layers": 0}},
        )
        for spec in every
    ]


class Reports:
    """Stands in for the reporter; keeps everything in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []
        self.lock = threading.Lock()

    def send(self, kind: str, **data: Any) -> None:
        with self.lock:
            self.all.append((kind, data))

    def phase(self, phase: str, **data: Any) -> None:
        self.send("phase", phase=phase, **data)

    def tick(self, tick: int) -> None:
        self.send("tick", tick=tick)


class Orders:
    """Stands in for the control."""

    def __init__(self, *, stop: bool = False, threshold: int | None = None) -> None:
        self.stop_after_clip = threading.Event()
        self.leave_state: str | None = None
        self.hold_mirror: Any = None
        self.held: Any = None
        if stop:
            self.stop_after_clip.set()
        self.spike_threshold = threshold


class RankReports(list[tuple[str, dict[str, Any]]]):
    """One rank's reports."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for found, data in self if found == kind]

    @property
    def result(self) -> dict[str, Any]:
        return self.of("result")[-1]


def run(
    every: list[RankSpec],
    *,
    stop: bool = False,
    threshold: int | None = None,
    timeout: float = 100,
) -> list[RankReports]:
    """Every rank's reports. ``AssertionError`` with the traceback of a rank that failed."""
    context = forks()
    ends = [context.Pipe(duplex=False) for _ in every]
    ranks = [
        context.Process(target=_rank, args=(spec, stop, threshold, end[1]), daemon=True)
        for spec, end in zip(every, ends, strict=True)
    ]
    for process in ranks:
        process.start()
    deadline = time.monotonic() + timeout
    try:
        found = []
        for rank, (receiver, _) in enumerate(ends):
            patience = max(0.0, deadline - time.monotonic())
            assert receiver.poll(patience), f"rank {rank} said nothing"
            answer = receiver.recv()
            assert not isinstance(answer, str), f"rank {rank}: {answer}"
            found.append(RankReports(answer))
        return found
    finally:
        for process in ranks:
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()


def _rank(spec: RankSpec, stop: bool, threshold: int | None, sender: Any) -> None:
    reports = Reports()
    try:
        from engine.ranks.onrank.job import run as job
        from engine.ranks.onrank.setup import prepare

        job(prepare(spec), reports, Orders(stop=stop, threshold=threshold))
        sender.send(reports.all)
    except BaseException:  # noqa: BLE001 - told to the test
        sender.send(traceback.format_exc())
