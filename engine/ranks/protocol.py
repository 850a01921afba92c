"""What crosses the channel between the engine and a rank: newline-delimited JSON both ways.

The engine sends one ``RankSpec`` and then orders; the rank sends reports. No torch here: the
engine's side imports this too.
"""

from __future__ import annotations

import dataclasses
import json
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
)

#: Orders the engine sends after the specification.
ORDERS: Final = ("stop_after_clip", "spike_threshold")


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
    cache_dir: str  # prompt and audio embeddings by hash
    dump_latents: str | None = None
    gpu_memory_cap: int | None = None


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
