"""What this version's executors run: one table, which planning ignores and launching obeys.

Every placement can be planned. ``unbuilt`` says why one cannot be launched yet.
"""

from __future__ import annotations

from typing import Final

from engine.placement.plan import Plan
from engine.sentence import sentence

#: Modes with their named variants; ``""`` is the mode itself.
MODES: Final[dict[str, tuple[str, ...]]] = {
    "single": ("",),
    "offload": ("",),
    "tpp": ("", "balanced", "streamed", "ring"),
    "fsdp": ("",),
}
#: Types of the weights; of the KV rings where not that of the compute; where these lie; where the
#: encoders run.
DTYPES: Final = ("fp32", "bf16", "fp8")
KV_DTYPES: Final[tuple[str, ...]] = ("fp8",)
KV_HOMES: Final = ("device", "host")
ENCODERS: Final = ("device", "host")


def unbuilt(plan: Plan) -> tuple[str, ...]:
    """Reasons why no executor of this version walks ``plan``; none if one does."""
    reasons: list[str] = []
    if plan.mode not in MODES:
        reasons.append(
            sentence(
                "mode {mode} is not built in this version; {modes} give the same latents",
                mode=plan.mode,
                modes=" and ".join(MODES),
            )
        )
    elif plan.variant not in MODES[plan.mode]:
        reasons.append(
            sentence(
                "variant {variant} of mode {mode} is not built in this version; built: {built}",
                variant=plan.variant,
                mode=plan.mode,
                built=[v or f"plain {plan.mode}" for v in MODES[plan.mode]],
            )
        )
    if plan.dtype not in DTYPES:
        reasons.append(
            sentence("{dtype} is not built in this version; leave out --fp8", dtype=plan.dtype)
        )
    computed = "bf16" if plan.dtype == "fp8" else plan.dtype
    if plan.kv_dtype not in (computed, *KV_DTYPES):
        reasons.append(
            sentence(
                "keys and values in {dtype} are not built; leave out --kv_dtype",
                dtype=plan.kv_dtype,
            )
        )
    if plan.kv not in KV_HOMES:
        reasons.append(sentence("keys and values on the host are not built; leave out --kv_home"))
    if plan.encoder_device not in ENCODERS:
        reasons.append(sentence("encoders on the host are not built; leave out --t5_cpu"))
    return tuple(reasons)
