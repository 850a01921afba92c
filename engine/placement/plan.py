"""Placement as data: where stages, weights, caches and the VAE live, and what that costs.

All modes are presets of the one type ``Plan``; one executor walks any of them. No torch here:
plans are made from JSON, safetensors headers and arithmetic.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["single", "offload", "tpp", "fsdp"]
DType = Literal["bf16", "fp32", "fp8"]


#: Where a ring of keys and values keeps the conditioning that attention sees in front of it: in
#: each ring; once for all rings of a rank (less memory, one more copy on the device); or so for
#: one clip epoch at a time (clip 1 then waits until clip 0 has left, once in a video).
Lead = Literal["own", "shared", "single"]


@dataclass(frozen=True)
class Resident:
    """Weights lie on the device."""

    kind: Literal["resident"] = "resident"


@dataclass(frozen=True)
class HostStream:
    """Weights lie in host memory once per host and are copied into ``slots`` on the device.

    The first ``resident_layers`` of every rank's layers stay on the device instead.
    """

    slots: int = 2
    pinned: bool = True
    resident_layers: int = 0
    kind: Literal["host_stream"] = "host_stream"


@dataclass(frozen=True)
class PeerGather:
    """Weights are sharded over the ranks of ``group`` and gathered for their moment of use."""

    group: tuple[int, ...]
    wrap: Literal["block", "reference"] = "block"
    kind: Literal["peer_gather"] = "peer_gather"


Weights = Resident | HostStream | PeerGather


@dataclass(frozen=True)
class Stage:
    """Which timesteps and which layers run on which rank.

    ``steps`` and ``layers`` are half-open ranges. A rank may own several stages, and a rank
    without one that holds shards is a ghost: it walks the layers so that collectives complete.

    A block passes the stages in the order of (step, first layer): ``tpp`` gives each stage all
    layers of a run of steps; *ring* gives each rank one range of layers for all steps;
    *balanced* cuts the walk of all steps' layers, laid end to end, wherever it is even.
    """

    rank: int
    steps: tuple[int, int]
    layers: tuple[int, int]


Variant = Literal["", "balanced", "streamed", "ring"]


@dataclass(frozen=True)
class HostPlan:
    """What the launch takes of the host, in bytes.

    ``pinned_bytes`` are the streamed weights, once per host, and host-side KV rings.
    ``process_bytes`` are the rank processes' own (on CPU ranks that is the plan itself).
    ``snapshot_bytes`` is the state that one switch moves through host memory, held only then.
    ``mirror_bytes`` is the shared memory that finished blocks are mirrored in; 0: nothing is.
    ``available_bytes`` is what host and cgroup still give, None where that is not known.
    """

    pinned_bytes: int = 0
    process_bytes: int = 0
    snapshot_bytes: int = 0
    mirror_bytes: int = 0
    disk_bytes: int = 0
    available_bytes: int | None = None


@dataclass(frozen=True)
class DevicePlan:
    """What one rank's device is predicted to hold at its peak, by owner, in bytes."""

    rank: int
    device: str  # "cuda:0" or "cpu"
    uuid: str | None = None
    name: str | None = None
    capacity_bytes: int | None = None
    usable_bytes: int | None = None
    predicted_bytes: int = 0
    margin_bytes: int = 0  # by which a measured peak may be above the prediction
    by_owner: dict[str, int] = field(default_factory=dict)
    modelled: dict[str, int] = field(default_factory=dict)  # before history corrected it


@dataclass(frozen=True)
class UnshardPlan:
    """Bytes of unsharded parameters per unit, and the predicted transient of one gather."""

    root_unit_bytes: int = 0
    max_unit_bytes: int = 0
    transient_bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """A whole placement with its predicted cost and a verdict."""

    mode: Mode
    dtype: DType
    sample_steps: int
    stages: tuple[Stage, ...]
    weights: Weights
    kv: Literal["device", "host"]
    kv_dtype: DType
    vae_rank: int  # the rank that encodes the portrait and decodes latents
    encoder_rank: int  # the rank that runs umT5 and wav2vec2, once
    order: Literal["sequential", "diagonal"]  # block by block, or a pipeline of depth = steps
    devices: tuple[DevicePlan, ...]
    unshard: UnshardPlan | None
    spike_threshold_bytes: tuple[int, ...]  # per rank: predicted steady state + one block
    fits: bool
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    seconds_per_block: float | None = None
    variant: Variant = ""
    gpu_memory_cap: int | None = None  # allocator cap of every rank, bytes
    host: HostPlan | None = None
    encoder_device: Literal["device", "host"] = "device"  # where umT5 runs on its rank
    lead: Lead = "own"
    prefetch: int = 0  # units gathered ahead, where weights are gathered
    possible: bool = True  # False: it cannot run here however much memory there is

    @property
    def world_size(self) -> int:
        return len(self.devices)

    @property
    def needs_nccl(self) -> bool:
        """Whether GPUs gather weights from each other. All else goes through host memory: a
        communicator takes device memory (``wire``)."""
        return (
            self.world_size > 1
            and self.devices[0].device.startswith("cuda")
            and self.weights.kind == "peer_gather"
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def plan_from_dict(data: dict[str, Any]) -> Plan:
    """Rebuild a plan from ``Plan.to_dict`` after JSON (a rank receives it so)."""
    kinds: dict[str, type[Resident] | type[HostStream] | type[PeerGather]] = {
        "resident": Resident,
        "host_stream": HostStream,
        "peer_gather": PeerGather,
    }
    weights = dict(data["weights"])
    kind = kinds[weights["kind"]]
    if kind is PeerGather:
        weights["group"] = tuple(weights["group"])
    unshard, host = data.get("unshard"), data.get("host")
    return Plan(
        **{
            **data,
            "weights": kind(**weights),
            "stages": tuple(
                Stage(s["rank"], tuple(s["steps"]), tuple(s["layers"])) for s in data["stages"]
            ),
            "devices": tuple(DevicePlan(**d) for d in data["devices"]),
            "unshard": UnshardPlan(**unshard) if unshard else None,
            "host": HostPlan(**host) if host else None,
            "spike_threshold_bytes": tuple(data["spike_threshold_bytes"]),
            "reasons": tuple(data["reasons"]),
            "remarks": tuple(data["remarks"]),
        }
    )
