"""A release: what runs, under a version name, told apart by a digest that nothing can change."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from engine.parameters.request import DEFAULTS, Request
from engine.sentence import sentence

#: Parameters that name files of the model.
MODEL: Final = (
    "ckpt_dir",
    "t5_path",
    "vae_path",
    "wav2vec_path",
    "load_lora",
    "lora_path_dmd",
)
#: A job's own: no release sets these.
JOB_ONLY: Final = frozenset(
    {"prompt", "image", "audio", "num_clip", "output", "dump_latents", "spike_threshold"}
)
#: Where a job runs; the stages "single" and "multi" set these themselves.
PLACING: Final = (
    "mode",
    "num_gpus_dit",
    "ulysses_size",
    "enable_vae_parallel",
    "offload_model",
    "single_gpu",
    "dit_fsdp",
    "gpus",
    "variant",
)
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ReleaseError(ValueError):
    """Something about a release that cannot be; says what and what to do.

    ``kind``: "bad_input" for a name or value that is wrong, "refused" for what a rule forbids.
    """

    def __init__(self, message: str, kind: str = "bad_input") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class WeightFile:
    """One file of the model as it was when it was hashed. Bytes; nanoseconds."""

    path: str
    size: int
    mtime_ns: int
    sha256: str

    def changed(self) -> str | None:
        """What is different on disk now, by size and time; None when nothing is."""
        try:
            now = Path(self.path).stat()
        except OSError as error:
            return f"{self.path}: {error.strerror or error}"
        if (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            return sentence("{path} was changed after the release was added", path=self.path)
        return None


@dataclass(frozen=True)
class Release:
    """One version. Everything but ``version``, paths and ``created`` is in its digest."""

    version: str
    model: dict[str, Any]  # request fields of MODEL
    parameters: dict[str, Any] = field(default_factory=dict)  # other request fields
    weights: tuple[WeightFile, ...] = ()
    lora: tuple[WeightFile, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)  # snapshot.environment()
    configuration: dict[str, str] = field(default_factory=dict)  # path → sha256 of its content
    variables: dict[str, str] = field(default_factory=dict)  # of the ranks' environment
    memory_cap: int | None = None  # bytes per device
    created: float = 0.0
    note: str = ""

    @property
    def runner(self) -> str:
        """ "engine": our ranks; "command": an external program, named by its parameters."""
        return runner_of(self.parameters)

    @property
    def digest(self) -> str:
        """SHA-256 of its content: files by their bytes, not by their place."""
        root = str(self.model.get("ckpt_dir") or "")
        body = {
            "weights": sorted((os.path.relpath(f.path, root), f.sha256) for f in self.weights),
            "lora": sorted(f.sha256 for f in self.lora),
            "parameters": self.parameters,
            "environment": self.environment,
            "configuration": self.configuration,
            "variables": self.variables,
            "memory_cap": self.memory_cap,
        }
        return hashlib.sha256(_canonical(body)).hexdigest()

    @property
    def numerics(self) -> str:
        """Digest of weights and LoRA: equal where outputs should be equal."""
        body = sorted(f.sha256 for f in self.weights), sorted(f.sha256 for f in self.lora)
        return hashlib.sha256(_canonical(body)).hexdigest()

    def changed(self) -> str | None:
        """The first of its files that is no longer what was added; None when all are."""
        for file in (*self.weights, *self.lora):
            if (what := file.changed()) is not None:
                return what
        return None

    def apply(
        self, asked: Mapping[str, Any], placement: Mapping[str, Any] | None = None
    ) -> Request:
        """The request that this version runs for what was asked.

        Args:
            asked: ``Request.to_dict()``. placement: takes the place of every placing parameter.

        Raises:
            engine.parameters.problems.ParamError: the parameters do not go together.
        """
        own = dict(self.parameters)
        if placement is not None:
            own = {name: DEFAULTS[name] for name in PLACING} | {
                name: value for name, value in own.items() if name not in PLACING
            }
            own |= placement
        if self.memory_cap is not None:
            own["gpu_memory_cap"] = self.memory_cap
        model = {name: self.model.get(name, DEFAULTS[name]) for name in MODEL}
        return Request.from_dict({**asked, **model, **own})

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe, with the digest and the runner."""
        return {**dataclasses.asdict(self), "digest": self.digest, "runner": self.runner}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Release:
        """What ``to_dict`` wrote."""
        names = {f.name for f in dataclasses.fields(Release)}
        body = {name: value for name, value in data.items() if name in names}
        for name in ("weights", "lora"):
            body[name] = tuple(WeightFile(**entry) for entry in body.get(name, ()))
        return Release(**body)


def runner_of(parameters: Mapping[str, Any]) -> str:
    """Who runs a request: "engine", or "command" where it names a program or a profile."""
    return "command" if parameters.get("command") or parameters.get("profile") else "engine"


def model_key(request: Mapping[str, Any]) -> str:
    """Which model a request means: the folder and the LoRA, links resolved."""
    lora = request.get("lora_path_dmd") if request.get("load_lora") else None
    parts = [request.get("ckpt_dir"), request.get("t5_path"), request.get("vae_path"),
             request.get("wav2vec_path"), lora]  # fmt: skip
    real = [os.path.realpath(str(part)) if part else None for part in parts]
    return json.dumps([*real, bool(request.get("load_lora"))])


def check_version(name: str) -> str:
    """A version's name, which is a folder's too.

    Raises:
        ReleaseError: it is not one.
    """
    if _VERSION.fullmatch(name) is None or name in ("none", "stable", "candidate"):
        raise ReleaseError(
            sentence(
                "{name!r} is no version name: letters, figures, '.', '_' and '-', at "
                "most 64, and not none, stable or candidate",
                name=name,
            )
        )
    return name


def check_parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that a release may set.

    Raises:
        ReleaseError: unknown ones, or ones that belong to a job.
    """
    wrong = sorted(set(values) - set(DEFAULTS))
    if wrong:
        raise ReleaseError(sentence("unknown parameters: {wrong}", wrong=", ".join(wrong)))
    own = sorted(set(values) & JOB_ONLY)
    if own:
        raise ReleaseError(
            sentence("{own}: belongs to a job, not to a release; leave it out", own=", ".join(own))
        )
    return {n: v for n, v in values.items() if n not in MODEL and n != "gpu_memory_cap"}


def _canonical(body: Any) -> bytes:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode()
