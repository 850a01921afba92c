"""One generation request, validated: the value that everything downstream works from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Used, and told, where no prompt is given (the reference falls back on an example too).
DEFAULT_PROMPT = (
    "A person is talking to the camera with natural expressions, upper body in view, "
    "even soft lighting, plain background, realistic style."
)


@dataclass(frozen=True)
class Request:
    """A request under the reference's parameter names; meanings stand in the table.

    ``None`` means "not asked for": the mode, the machine or the checkpoint decides. Paths are
    absolute once resolved. Bytes and seconds are the units.
    """

    # inputs
    prompt: str = DEFAULT_PROMPT
    image: str | None = None
    audio: str | None = None
    # generation
    size: str = "704*384"
    num_clip: int = 50
    infer_frames: int = 48
    sample_steps: int = 4
    sample_guide_scale: float = 0.0
    sample_solver: str = "euler"
    sample_shift: float = 3.0
    base_seed: int = 420
    enable_online_decode: bool = False
    task: str = "s2v-14B"
    # model files
    ckpt_dir: str | None = None
    t5_path: str | None = None
    vae_path: str | None = None
    wav2vec_path: str | None = None
    load_lora: bool = False
    lora_path_dmd: str | None = None
    # placement
    mode: str | None = None
    num_gpus_dit: int | None = None
    ulysses_size: int = 1
    enable_vae_parallel: bool = False
    offload_model: bool | None = None
    single_gpu: bool = False
    dit_fsdp: bool = False
    gpus: str | None = None
    dtype: str | None = None
    fp8: bool = False
    fp8_cache: bool = False
    variant: str | None = None
    kv_home: str | None = None
    kv_dtype: str | None = None
    t5_cpu: bool = False
    resident_layers: int | None = None
    fsdp_wrap: str = "block"
    prefetch: int | None = None
    host_memory: int | None = None
    gpu_memory_cap: int | None = None
    # output and watching
    output: str | None = None
    dump_latents: str | None = None
    spike_threshold: int | None = None
    accept_low_quality: bool = False
    # faults
    retries: int = 2
    allow_degrade: bool = False
    mirror: str = "auto"

    # external command
    command: str | None = None
    profile: str | None = None
    workdir: str | None = None

    @property
    def external(self) -> bool:
        """Whether another program does the work."""
        return self.command is not None or self.profile is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; ``from_dict`` gives an equal request back."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Request:
        """Rebuild and check a request that crossed a process border.

        Raises:
            ParamError: unknown names, or values that are refused.
        """
        from engine.parameters.validate import request_from

        return request_from(data)

    def replace(self, **changes: Any) -> Request:
        """A checked copy with some values changed.

        Raises:
            ParamError: as ``from_dict``.
        """
        return Request.from_dict({**self.to_dict(), **changes})


DEFAULTS: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(Request)}
