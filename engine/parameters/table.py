"""The one table of parameters: flags, environment, TOML, tune screen and docs derive from it."""

from __future__ import annotations

from typing import Final

from engine.parameters.parameter import Kind as Kind
from engine.parameters.parameter import Parameter as Parameter
from engine.parameters.table_placement import ALL_MODES as ALL_MODES
from engine.parameters.table_placement import AUTO as AUTO
from engine.parameters.table_placement import MODES_NOW as MODES_NOW
from engine.parameters.table_placement import PLACEMENT
from engine.parameters.table_video import VIDEO

#: Groups in the order they are shown.
GROUPS: Final = (
    "inputs",
    "generation",
    "model files",
    "placement",
    "output and watching",
    "external command",
)

_P = Parameter

PARAMETERS: Final[tuple[Parameter, ...]] = (
    *VIDEO,
    *PLACEMENT,
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
