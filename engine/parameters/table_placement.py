"""Parameters of where the work runs, and the modes there are."""

from __future__ import annotations

from typing import Final

from engine.parameters.parameter import Parameter
from engine.placement.built import MODES

#: Lets the plan pick the mode.
AUTO: Final = "auto"

#: Modes that this version runs, of all there are (docs/architecture.md).
ALL_MODES: Final = ("single", "offload", "tpp", "fsdp")
MODES_NOW: Final = tuple(mode for mode in ALL_MODES if mode in MODES)
_LATER = [mode for mode in ALL_MODES if mode not in MODES]

_P = Parameter

PLACEMENT: Final[tuple[Parameter, ...]] = (
    _P(
        "mode",
        "choice",
        "placement",
        "Where the work runs. single: one rank holds all; offload: weights streamed from the host; "
        "tpp: a pipeline of ranks; fsdp: weights sharded over 2 or more ranks; auto: the fastest "
        "that fits. Latents are equal in all; avatop plan shows each."
        + (f" Not in this version: {', '.join(_LATER)}." if _LATER else ""),
        choices=(*ALL_MODES, AUTO),
    ),
    _P(
        "variant",
        "choice",
        "placement",
        "How tpp is cut. balanced: evenly over steps and layers, the VAE counted; streamed: "
        "weights from the host; ring: a range of layers per rank, blocks circulate. Default: "
        "whole steps. Same latents.",
        choices=("balanced", "streamed", "ring"),
    ),
    _P(
        "kv_home",
        "choice",
        "placement",
        "Where keys and values live between their uses: device, or host for little device memory "
        "at the price of copies. Same latents.",
        choices=("device", "host"),
    ),
    _P(
        "kv_dtype",
        "choice",
        "placement",
        "Type of the keys and values kept: as the compute type (default), or fp8 for half of "
        "bf16's memory, which alters the output.",
        choices=("bf16", "fp32", "fp8"),
    ),
    _P(
        "resident_layers",
        "int",
        "placement",
        "Layers that stay on the device where weights are streamed, 0 to all of them. Default: as "
        "many as fit. Same latents.",
        minimum=0,
    ),
    _P(
        "fsdp_wrap",
        "choice",
        "placement",
        "Which weights are gathered together in mode fsdp. block: a layer, an injector, or the "
        "rest; reference: a layer, or all else at once (a spike of 8 GiB at 14B), to reproduce "
        "what the reference does. Same latents.",
        choices=("block", "reference"),
    ),
    _P(
        "prefetch",
        "int",
        "placement",
        "Units of weights that mode fsdp gathers ahead of their use, 0 to 2. Default: 1 on GPUs, "
        "0 on CPU. More hide the gathers better and take a unit's memory each. Same latents.",
        minimum=0,
        maximum=2,
    ),
    _P(
        "host_memory",
        "bytes",
        "placement",
        "Free host memory to plan with, e.g. 200GiB, where the host's own reading is wrong: a "
        "virtual machine whose memory grows with use. A launch that needs more is refused.",
        minimum=2**20,
    ),
    _P(
        "t5_cpu",
        "bool",
        "placement",
        "Run the text encoder in host memory (11.4 GB for the 14B's) rather than on its rank's "
        "device before the DiT loads.",
    ),
    _P(
        "num_gpus_dit",
        "int",
        "placement",
        "Ranks that hold the DiT, 1 or more, on CPU too. More ranks: less memory each, more "
        "speed up to the number of steps.",
        minimum=1,
    ),
    _P(
        "ulysses_size",
        "int",
        "placement",
        "Sequence parallelism of the reference, 1 or more. Above 1 it is refused with the plan "
        "that uses as many devices; in the articles' line for 4 GPUs it is read as 1, and told.",
        minimum=1,
    ),
    _P(
        "enable_vae_parallel",
        "bool",
        "placement",
        "Give the VAE a rank of its own, besides num_gpus_dit.",
    ),
    _P(
        "offload_model",
        "bool",
        "placement",
        "The reference's flag for weights streamed from host memory: mode offload.",
    ),
    _P("single_gpu", "bool", "placement", "The reference's flag for mode single."),
    _P("dit_fsdp", "bool", "placement", "The reference's flag for mode fsdp."),
    _P(
        "gpus",
        "gpus",
        "placement",
        "Devices to use: indices (0,2), UUIDs, or cpu. Within CUDA_VISIBLE_DEVICES.",
    ),
    _P(
        "dtype",
        "choice",
        "placement",
        "Compute type: bf16 (default on GPUs) or fp32 (default on CPU, twice the memory).",
        choices=("bf16", "fp32"),
    ),
    _P(
        "fp8",
        "bool",
        "placement",
        "Quantise the DiT's linears to fp8 while loading: half the weights, altered output; needs "
        "compute capability 8.9.",
    ),
    _P(
        "fp8_cache",
        "bool",
        "placement",
        "Keep the fp8 weights in a folder beside the checkpoint (15 GB at 14B), and take them from "
        "there the next time.",
    ),
    _P(
        "gpu_memory_cap",
        "bytes",
        "placement",
        "Most bytes a rank's allocator may take, e.g. 20GiB. A rank that needs more fails with "
        "out of memory, other processes are safe.",
        minimum=2**20,
    ),
)
