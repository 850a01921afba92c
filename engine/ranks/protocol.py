"""What crosses the channel between the engine and a rank: newline-delimited JSON both ways.

The engine sends one ``RankSpec`` and then orders; the rank sends reports. No torch here: the
engine's side imports this too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: Seconds between heartbeats of a rank.
HEARTBEAT_SECONDS: Final = 0.5

#: Kinds of report a rank sends; the payload of each is listed in docs/architecture.md.
REPORTS: Final = (
    "hello",
    "heartbeat",
    "phase",
    "log",
    "ledger",
    "unshards",
    "spike",
    "step",
    "block",
    "clip",
    "result",
    "failed",
    "held",
    "kept",
)

#: Orders the engine sends after the specification.
ORDERS: Final = ("stop_after_clip", "spike_threshold", "hold_mirror")

#: Modules that only some groups need: the fork server loads them for those that do.
FSDP: Final = "torch.distributed.fsdp"
#: FSDP's first call imports it, in every rank anew.
COMPILER: Final = "torch._dynamo"
ENCODERS: Final = (
    "transformers.models.umt5.modeling_umt5",
    "transformers.models.wav2vec2.modeling_wav2vec2",
)


@dataclass(frozen=True)
class StateSpec:
    """What of a job's state is kept outside its ranks, and what of it they go on from.

    Clips and blocks that files of state name count from the newest seam on.
    """

    folder: str | None = None  # where finished blocks are mirrored; None: nowhere
    source: str | None = None  # the folder with the state to go on from
    cut: tuple[int, ...] | None = None  # the next block of every step
    committed: int = 0  # clips of the whole video that are committed: not encoded again
    seam: int = 0  # the clip at which the video began anew; 0: it never did


@dataclass(frozen=True)
class RankSpec:
    """Everything one rank needs to do its part of one job. Plain data, no paths guessed."""

    job: int
    rank: int
    world_size: int
    device: str  # "cuda:0" or "cpu"
    backend: str  # "nccl" | "gloo"
    master_addr: str
    master_port: int
    request: dict[str, Any]  # engine.params.Request.to_dict(), already resolved and linted
    plan: dict[str, Any]  # engine.placement.plan.Plan.to_dict()
    layout: dict[str, str]  # component → path, from engine.checkpoint.layout.Layout.paths()
    segment_dir: str  # where clip segments are written (temporary name, then renamed)
    cache_dir: str  # encoded prompts, voices and portraits by hash
    dump_latents: str | None = None
    gpu_memory_cap: int | None = None
    state: dict[str, Any] = field(default_factory=dict)  # fields of StateSpec
    keep: str | None = None  # name of the weights that stay for the next job; None: none do

    @property
    def kept(self) -> StateSpec:
        """``state``, typed again after JSON."""
        cut = self.state.get("cut")
        return StateSpec(**{**self.state, "cut": None if cut is None else tuple(cut)})


#: Bytes that a rank may hold, below what its specification says: how a drill runs out of memory.
DRILL_CAP: Final = "AVATOP_DRILL_CAP"


def capped(spec: RankSpec, environment: Mapping[str, str]) -> RankSpec:
    """The specification under the drill's cap, if there is one and it is the lower one."""
    text = environment.get(DRILL_CAP, "")
    if not text.isdecimal():
        return spec
    cap = int(text) if spec.gpu_memory_cap is None else min(int(text), spec.gpu_memory_cap)
    return dataclasses.replace(spec, gpu_memory_cap=cap)


@dataclass(frozen=True)
class Report:
    """One message from a rank."""

    kind: str
    rank: int
    t: float
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """One message to a rank after its specification."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)


def encode(message: RankSpec | Report | Order) -> bytes:
    """One line, with its newline."""
    body = {"message": type(message).__name__, **dataclasses.asdict(message)}
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> RankSpec | Report | Order:
    """Raises ``ValueError`` for a line of another vocabulary."""
    body = json.loads(line)
    kinds: dict[str, type[RankSpec] | type[Report] | type[Order]] = {
        "RankSpec": RankSpec,
        "Report": Report,
        "Order": Order,
    }
    kind = kinds.get(body.pop("message", None))
    if kind is None:
        raise ValueError("not a message of the rank channel")
    return kind(**body)
