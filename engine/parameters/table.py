"""The one table of parameters: flags, environment, TOML, tune screen and docs derive from it."""

from __future__ import annotations

from typing import Final

from engine.parameters.parameter import Kind as Kind
from engine.parameters.parameter import Parameter as Parameter
from engine.placement.built import MODES

#: Groups in the order they are shown.
GROUPS: Final = (
    "inputs",
    "generation",
    "model files",
    "placement",
    "output and watching",
    "external command",
)

#: Lets the plan pick the mode.
AUTO: Final = "auto"

#: Modes that this version runs, of all there are (docs/architecture.md).
ALL_MODES: Final = ("single", "offload", "tpp", "fsdp")
MODES_NOW: Final = tuple(mode for mode in ALL_MODES if mode in MODES)
_LATER = [mode for mode in ALL_MODES if mode not in MODES]


_P = Parameter

PARAMETERS: Final[tuple[Parameter, ...]] = (
    _P(
        "prompt",
        "text",
        "inputs",
        "What the video shows: person, clothes, pose, scene, light, style, in any language. "
        "Steers appearance and manner; short or contradictory prompts give vague results.",
        env=("PROMPT",),
    ),
    _P(
        "image",
        "file",
        "inputs",
        "The portrait: a readable picture of at least 512x512, frontal and evenly lit. "
        "Gives identity and, by its aspect, the shape of the frame.",
        env=("IMAGE_PATH",),
        aliases=("image_path",),
    ),
    _P(
        "audio",
        "file",
        "inputs",
        "The voice: WAV, MP3 or any audio file of at least 16 kHz. Drives lips and expression; "
        "its length bounds the video's.",
        env=("AUDIO_PATH",),
        aliases=("audio_path",),
    ),
    _P(
        "size",
        "size",
        "generation",
        "Frame area as width*height (or WxH), at least 64*64; snapped to multiples of 64 by the "
        "portrait's aspect. Time and memory grow with the area, attention faster.",
        env=("INFER_RES", "RESOLUTION"),
        aliases=("resolution",),
    ),
    _P(
        "num_clip",
        "int",
        "generation",
        "Most clips to make, 1 or more; the audio's end stops earlier. "
        "Length = infer_frames x clips - 3 frames.",
        env=("CLIP_COUNT",),
        minimum=1,
    ),
    _P(
        "infer_frames",
        "int",
        "generation",
        "Video frames per clip, a multiple of 12 (one block). More per clip means fewer commits, "
        "not more memory: the KV ring stays 12 latent frames.",
        minimum=12,
        maximum=1200,
        multiple_of=12,
    ),
    _P(
        "sample_steps",
        "int",
        "generation",
        "Denoising steps per block, 1 to 1000; the model is distilled for 4, 3 is faster, 5-6 "
        "finer. Time and KV memory grow in proportion.",
        env=("SAMPLE_STEPS",),
        minimum=1,
        maximum=1000,
    ),
    _P(
        "sample_guide_scale",
        "float",
        "generation",
        "Classifier-free guidance. Only 0: the model is distilled without guidance and this "
        "version has no second, unconditional pass.",
        minimum=0,
    ),
    _P(
        "sample_solver",
        "choice",
        "generation",
        "How the flow is integrated. Only euler: the distilled schedule was trained with it.",
        choices=("euler",),
    ),
    _P(
        "sample_shift",
        "float",
        "generation",
        "Shift of the noise schedule, above 0 to 20. 3 is what the model was distilled with; "
        "higher spends the steps at higher noise.",
        minimum=0.01,
        maximum=20,
    ),
    _P(
        "base_seed",
        "int",
        "generation",
        "Seed of every random draw, 0 to 2^63-1. The same seed and request give bitwise the same "
        "latents in every mode.",
        minimum=0,
        maximum=2**63 - 1,
    ),
    _P(
        "enable_online_decode",
        "bool",
        "generation",
        "Decode while generating. Always on here: every block is decoded as soon as it is done, "
        "so memory does not grow with length.",
        env=("ENABLE_ONLINE_DECODE",),
    ),
    _P(
        "task",
        "choice",
        "generation",
        "The model family. Only s2v-14B, speech to video; the checkpoint gives the shape.",
        choices=("s2v-14B",),
    ),
    _P(
        "ckpt_dir",
        "path",
        "model files",
        "Folder of the checkpoint (Wan2.2-S2V-14B layout): DiT shards, VAE, T5, wav2vec2.",
        env=("MODEL_CKPT_DIR", "CKPT_DIR"),
    ),
    _P(
        "t5_path",
        "path",
        "model files",
        "umT5 encoder weights, where they lie outside ckpt_dir.",
        env=("T5_PATH",),
    ),
    _P(
        "vae_path",
        "path",
        "model files",
        "VAE weights, where they lie outside ckpt_dir.",
        env=("VAE_PATH",),
    ),
    _P(
        "wav2vec_path",
        "path",
        "model files",
        "wav2vec2 folder, where it lies outside ckpt_dir.",
        env=("WAV2VEC_PATH",),
    ),
    _P(
        "load_lora",
        "bool",
        "model files",
        "Merge the LoRA of lora_path_dmd into the DiT while loading. Costs load time only.",
    ),
    _P(
        "lora_path_dmd",
        "path",
        "model files",
        "The LoRA: a safetensors file, a folder with one, or a Hub id in the local cache. "
        "Read only with load_lora.",
        hub=True,
    ),
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
    _P(
        "output",
        "path",
        "output and watching",
        "The MP4 to write, or a folder for it. Default: a file named after the audio and the "
        "job under the state directory.",
        env=("OUTPUT_DIR",),
        aliases=("save_file", "output_path"),
    ),
    _P(
        "dump_latents",
        "path",
        "output and watching",
        "Also write the final latents to this .safetensors file.",
    ),
    _P(
        "spike_threshold",
        "bytes",
        "output and watching",
        "Bytes above which a rise of device memory is flagged, e.g. 500MiB. Default: the plan's "
        "steady state plus one block.",
        minimum=1,
    ),
    _P(
        "accept_low_quality",
        "bool",
        "output and watching",
        "Run although the portrait is under 512x512 or the audio under 16 kHz: these become "
        "warnings.",
    ),
    _P(
        "retries",
        "int",
        "output and watching",
        "How often a job is started again by itself after a fault that may pass (out of memory, a "
        "killed rank, a port, communication), 0 to 10. Never after bad input or a bad checkpoint.",
        minimum=0,
        maximum=10,
    ),
    _P(
        "allow_degrade",
        "bool",
        "output and watching",
        "A retry after out of memory may also change the output (fp8, smaller frames) where no "
        "other plan fits, as long as no clip is committed.",
    ),
    _P(
        "mirror",
        "choice",
        "output and watching",
        "Keep finished blocks in shared memory that outlives the ranks, so that a killed job goes "
        "on bit by bit (about 48 GiB for 14B at 704*384): auto where host memory allows, or on, "
        "off.",
        choices=("auto", "on", "off"),
    ),
    _P(
        "command",
        "text",
        "external command",
        "Run this program instead of the built-in engine, e.g. 'bash run_template.sh'. Split into "
        "words, never handed to a shell; {placeholders} are filled, every parameter is in its "
        "environment.",
    ),
    _P(
        "profile",
        "text",
        "external command",
        "Run the program that a profile describes: reference-single, reference-tpp5, "
        "articles-4gpu, script, docker, one of your own, or a .toml file.",
    ),
    _P(
        "workdir",
        "path",
        "external command",
        "The folder an external command runs in. Default: where avatop was called.",
    ),
    # Flags of the reference's launch scripts that change nothing here.
    _P(
        "training_config",
        "text",
        "generation",
        "The reference's training configuration.",
        no_effect="the checkpoint's config.json says all that inference needs",
    ),
    _P(
        "convert_model_dtype",
        "bool",
        "placement",
        "The reference's switch for bf16 weights.",
        no_effect="weights are always loaded in the compute type; see --dtype",
    ),
)

BY_NAME: Final[dict[str, Parameter]] = {p.name: p for p in PARAMETERS}
#: Any accepted spelling (underscored) → name.
SPELLINGS: Final[dict[str, str]] = {
    spelling: p.name for p in PARAMETERS for spelling in (p.name, *p.aliases)
}


def find(spelling: str) -> Parameter | None:
    """The parameter behind a flag or key, hyphens and aliases understood."""
    name = SPELLINGS.get(spelling.lstrip("-").replace("-", "_"))
    return BY_NAME[name] if name else None
