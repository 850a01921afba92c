"""Bad inputs to ``avatop run`` as data: what is given and what the one message must name.

``argv`` comes behind valid arguments (``base_argv``) and overrides them; ``{dir}`` stands for the
folder that ``make_files`` filled. The same table is used below the command line and through it.
"""

from __future__ import annotations

import wave
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class BadInput:
    name: str
    argv: tuple[str, ...]
    says: tuple[str, ...]  # each must be in the message
    env: Mapping[str, str] = field(default_factory=dict)
    toml: str | None = None  # content of the file given as --config


BAD_INPUTS = (
    BadInput("frames", ("--infer_frames", "80"), ("infer_frames 80", "multiple of 12", "72 or 84")),
    BadInput("size form", ("--size", "704"), ("size 704", "width*height", "704*384")),
    BadInput("size zero", ("--size", "0x384"), ("size 0x384", "64")),
    BadInput("steps", ("--sample_steps", "0"), ("sample_steps 0", "1 or more")),
    BadInput("clips", ("--num_clip", "many"), ("num_clip many", "whole number")),
    BadInput("seed", ("--base_seed", "-1"), ("base_seed -1", "0 or more")),
    BadInput("guidance", ("--sample_guide_scale", "5"), ("sample_guide_scale 5", "guidance")),
    BadInput("solver", ("--sample_solver", "dpm++"), ("sample_solver dpm++", "euler")),
    BadInput("no such mode", ("--mode", "turbo"), ("mode turbo", "single", "fsdp")),
    BadInput(
        "variant of another mode",
        ("--mode", "fsdp", "--variant", "ring"),
        ("--mode fsdp", "--variant ring", "--mode tpp --variant ring"),
    ),
    BadInput(
        "contradiction",
        ("--mode", "tpp", "--offload_model", "True"),
        ("--mode tpp", "--offload_model True", "contradict"),
    ),
    BadInput(
        "one rank, sharded",
        ("--mode", "fsdp", "--num_gpus_dit", "1"),
        ("--mode fsdp", "--num_gpus_dit 1", "2 or more"),
    ),
    BadInput("truth", ("--enable_online_decode", "perhaps"), ("enable_online_decode", "True")),
    BadInput("gpus", ("--gpus", "0,0"), ("gpus 0,0", "twice")),
    BadInput("memory", ("--gpu_memory_cap", "lots"), ("gpu_memory_cap lots", "20GiB")),
    BadInput("prompt", ("--prompt", "  "), ("prompt", "empty")),
    BadInput("output", ("--output", "{dir}/video.avi"), ("output", ".mp4")),
    BadInput("no checkpoint", ("--ckpt_dir", "{dir}/nowhere"), ("ckpt_dir", "does not exist")),
    BadInput("checkpoint file", ("--ckpt_dir", "{dir}/good.wav"), ("ckpt_dir", "not a folder")),
    BadInput("no image", ("--image", "{dir}/godo.png"), ("image", "does not exist", "good.png")),
    BadInput("text as image", ("--image", "{dir}/text.png"), ("text.png", "not a picture")),
    BadInput("torn image", ("--image", "{dir}/torn.png"), ("torn.png", "cannot be read")),
    BadInput("small image", ("--image", "{dir}/small.png"), ("small.png", "512x512")),
    BadInput("no audio", ("--audio", "{dir}/nowhere.wav"), ("audio", "does not exist")),
    BadInput("text as audio", ("--audio", "{dir}/text.wav"), ("text.wav", "cannot be read")),
    BadInput("image as audio", ("--audio", "{dir}/good.png"), ("good.png", "no audio stream")),
    BadInput("telephone audio", ("--audio", "{dir}/telephone.wav"), ("8000 Hz", "16000")),
    BadInput("empty audio", ("--audio", "{dir}/empty.wav"), ("empty.wav", "is empty")),
    BadInput("short audio", ("--audio", "{dir}/short.wav"), ("short.wav", "0.20 s")),
    BadInput("silent audio", ("--audio", "{dir}/silent.wav"), ("silent.wav", "silent")),
    BadInput(
        "two sizes",
        (),
        ("INFER_RES", "RESOLUTION", "size"),
        env={"INFER_RES": "384*256", "RESOLUTION": "704*384"},
    ),
    BadInput("bad variable", (), ("SAMPLE_STEPS four",), env={"SAMPLE_STEPS": "four"}),
    BadInput("unknown key", (), ("sample_step", "sample_steps"), toml="sample_step = 3\n"),
    BadInput("not toml", (), ("TOML",), toml="size = = 3\n"),
)


def base_argv(folder: Path, ckpt: Path) -> tuple[str, ...]:
    """Arguments that are good by themselves."""
    prompt = "A young woman with dark hair in a blue suit, office, smiling warmly, soft light"
    return (
        *("--image", f"{folder}/good.png", "--audio", f"{folder}/good.wav"),
        *("--ckpt_dir", str(ckpt), "--prompt", prompt),
    )


def filled(case: BadInput, folder: Path) -> tuple[str, ...]:
    """The case's own arguments with its paths put in, its TOML file written and named."""
    argv = tuple(part.replace("{dir}", str(folder)) for part in case.argv)
    if case.toml is not None:
        path = folder / "job.toml"
        path.write_text(case.toml)
        argv = (*argv, "--config", str(path))
    return argv


def make_files(folder: Path) -> None:
    """Good and bad pictures and sounds."""
    noise = np.random.default_rng(7).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "good.png", compress_level=1)
    Image.fromarray(noise[:256, :256]).save(folder / "small.png", compress_level=1)
    (folder / "text.png").write_text("not a picture")
    whole = (folder / "good.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.wav").write_text("not a sound")
    write_wav(folder / "good.wav", voice(3.0, 16_000), 16_000)
    write_wav(folder / "telephone.wav", voice(3.0, 8_000), 8_000)
    write_wav(folder / "short.wav", voice(0.2, 16_000), 16_000)
    write_wav(folder / "empty.wav", np.zeros((0, 1)), 16_000)
    write_wav(folder / "silent.wav", np.zeros((48_000, 1)), 16_000)


def voice(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """A tone that swells and fades a few times a second, float [samples, channels]."""
    t = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 220 * t) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * t))
    return np.repeat(tone[:, None], channels, axis=1)


def write_wav(path: Path, sound: np.ndarray, rate: int) -> None:
    """16-bit PCM from float [samples, channels]."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
