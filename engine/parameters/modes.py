"""Which mode the flags mean: the table of docs/cli.md, contradictions, ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.parameters.problems import ParamError, Problem
from engine.parameters.request import Request
from engine.parameters.table import ALL_MODES, AUTO, MODES_NOW

# Prose only: the articles' model, named in the remark on ulysses_size.
_HEADS_14B = 40
# Ranks of an fsdp job on CPU when nobody says how many.
_CPU_FSDP_RANKS = 2


@dataclass(frozen=True)
class ModeReading:
    """What a request's placement flags mean.

    ``num_ranks`` counts every rank: ``dit_ranks`` and, with ``own_vae_rank``, one more (the
    last) that serves the VAE.
    """

    mode: str
    num_ranks: int
    dit_ranks: int
    own_vae_rank: bool = False
    remarks: tuple[str, ...] = ()


def read_mode(
    request: Request, gpus: int | None = None, *, available: Sequence[str] = MODES_NOW
) -> ModeReading:
    """The mode and number of ranks that a request means.

    Args:
        gpus: GPUs the job may use; 0 for CPU ranks, ``None`` where unknown (then counts are not
            checked against it).
        available: modes that may come out; pass ``ALL_MODES`` to only read. ``auto`` always may.

    Raises:
        ParamError: flags that contradict each other, more ranks than GPUs, too few ranks for
            the mode, or a mode that this version does not run.
    """
    problems = contradictions(request)
    if problems:
        raise ParamError(problems)
    mode, why = _mode(request)
    if mode != AUTO and mode not in available:
        raise ParamError([_unavailable(request, mode, available)])
    dit = _dit_ranks(request, mode, gpus)
    own_vae = request.enable_vae_parallel and mode in ("tpp", "fsdp", AUTO)
    ranks = dit + own_vae
    if gpus and ranks > gpus:
        raise ParamError([_too_few_gpus(request, ranks, gpus, own_vae)])
    remarks = [why] if why else []
    if is_articles_line(request):
        remarks.append(_ulysses_remark(request.ulysses_size, dit))
    if request.enable_vae_parallel and not own_vae:
        remarks.append(
            f"enable_vae_parallel has no effect: mode {mode} runs on one rank, which also "
            "serves the VAE."
        )
    more = f"{dit} DiT ranks for {request.sample_steps} steps"
    if dit > request.sample_steps and mode == "fsdp":
        remarks.append(f"{more}: {dit - request.sample_steps} compute none and hold shards only.")
    if dit > request.sample_steps and mode == "tpp" and request.variant in (None, "streamed"):
        remarks.append(f"{more}: the cut runs through layers too, as in variant balanced.")
    return ModeReading(mode, ranks, dit, own_vae, tuple(remarks))


def is_articles_line(request: Request) -> bool:
    """``--num_gpus_dit 3 --ulysses_size 3 --enable_vae_parallel``, as the articles run it."""
    asked = (request.num_gpus_dit, request.ulysses_size, request.enable_vae_parallel)
    return request.mode in (None, "tpp") and asked == (3, 3, True)


def contradictions(request: Request) -> list[Problem]:
    """Pairs of flags that cannot both hold; each problem names both."""
    r = request
    many = r.num_gpus_dit is not None and r.num_gpus_dit > 1
    dit = f"--num_gpus_dit {r.num_gpus_dit}"
    ranks = r.num_gpus_dit or 2
    # (says this, says that, why, the nearest combination that holds)
    pairs: list[tuple[str, str, str, str]] = []
    if r.command is not None and r.profile is not None:
        why = "both say which program runs"
        pairs.append(("--command", f"--profile {r.profile}", why, "drop one of them"))
    vae = "--enable_vae_parallel True"
    if r.mode is not None:
        mode = f"--mode {r.mode}"
        if r.offload_model and r.mode != "offload":
            why = "offload_model means mode offload"
            pairs.append((mode, "--offload_model True", why, "use --mode offload, or drop it"))
        if r.offload_model is False and r.mode == "offload":
            why = "mode offload offloads the model"
            pairs.append((mode, "--offload_model False", why, "drop it, or use --mode single"))
        if r.dit_fsdp and r.mode != "fsdp":
            pairs.append((mode, "--dit_fsdp True", "dit_fsdp means mode fsdp", "use --mode fsdp"))
        if r.single_gpu and r.mode not in ("single", "offload"):
            why = f"mode {r.mode} runs on several devices"
            pairs.append((mode, "--single_gpu True", why, "use --mode single, or drop it"))
        if many and r.mode in ("single", "offload"):
            why = f"mode {r.mode} runs on one rank"
            near = f"use --mode tpp {dit} or --mode fsdp {dit}, or drop {dit}"
            pairs.append((mode, dit, why, near))
        if r.num_gpus_dit == 1 and r.mode == "fsdp":
            why = "mode fsdp shards the weights over 2 or more ranks"
            pairs.append((mode, dit, why, "use --num_gpus_dit 2, or --mode single"))
        if r.enable_vae_parallel and r.mode == "single":
            why = "a rank of the VAE's own makes it two"
            pairs.append((mode, vae, why, f"use --mode tpp --num_gpus_dit 1 {vae}, or drop it"))
        if r.variant is not None and r.mode not in ("tpp", AUTO):
            why = "variants are of mode tpp"
            near = f"use --mode tpp --variant {r.variant}, or drop it"
            pairs.append((mode, f"--variant {r.variant}", why, near))
        if r.variant is not None and r.mode == AUTO:
            why = "auto picks the variant too"
            pairs.append((mode, f"--variant {r.variant}", why, "use --mode tpp, or drop it"))
    else:
        if r.dit_fsdp and r.offload_model:
            why = "one means mode fsdp, one offload"
            pairs.append(("--dit_fsdp True", "--offload_model True", why, "drop one of them"))
        if r.dit_fsdp and r.num_gpus_dit == 1:
            why = "fsdp shards over 2 or more ranks"
            pairs.append(("--dit_fsdp True", dit, why, "use --num_gpus_dit 2"))
        if many and r.offload_model and not r.dit_fsdp:
            why = "one means mode tpp, one offload"
            near = f"use --mode tpp {dit} --variant streamed: weights from the host, on every rank"
            pairs.append((dit, "--offload_model True", why, near))
        for given, flag in (
            (r.dit_fsdp, "--dit_fsdp True"),
            (r.offload_model, "--offload_model True"),
            (r.single_gpu, "--single_gpu True"),
        ):
            if r.variant is not None and given:
                why = "variants are of mode tpp, the other flag means another mode"
                near = f"use --mode tpp --variant {r.variant}, or drop one"
                pairs.append((f"--variant {r.variant}", flag, why, near))
    if r.fp8 and r.dtype is not None and r.dtype != "bf16":
        why = "fp8 weights are computed with in bf16"
        pairs.append(("--fp8 True", f"--dtype {r.dtype}", why, "drop one of them"))
    sharding = r.mode == "fsdp" or (r.mode is None and (r.dit_fsdp or r.fsdp_wrap != "block"))
    streaming = r.mode in ("offload", AUTO) or r.variant == "streamed"
    streaming |= r.mode is None and bool(r.offload_model)
    meant = f"--mode {r.mode}" if r.mode is not None else "the mode that the other flags mean"
    if r.fsdp_wrap != "block" and not (sharding or r.mode == AUTO):
        why = "only mode fsdp gathers weights"
        near = f"use --mode fsdp --fsdp_wrap {r.fsdp_wrap}, or drop it"
        pairs.append((meant, f"--fsdp_wrap {r.fsdp_wrap}", why, near))
    if r.prefetch is not None and not (sharding or r.mode == AUTO):
        why = "only mode fsdp gathers weights ahead"
        near = f"use --mode fsdp --prefetch {r.prefetch}, or drop it"
        pairs.append((meant, f"--prefetch {r.prefetch}", why, near))
    if r.resident_layers is not None and not streaming:
        why = "only streamed weights can stay in part"
        near = f"use --mode offload --resident_layers {r.resident_layers}, or drop it"
        pairs.append((meant, f"--resident_layers {r.resident_layers}", why, near))
    if r.single_gpu:
        if many:
            why = "a single GPU holds one rank"
            pairs.append(("--single_gpu True", dit, why, "drop one of them"))
        if r.dit_fsdp:
            why = "fsdp needs 2 or more ranks"
            near = f"use --dit_fsdp --num_gpus_dit {ranks} alone, or drop it"
            pairs.append(("--single_gpu True", "--dit_fsdp True", why, near))
        if r.enable_vae_parallel:
            why = "the VAE would need a second"
            pairs.append(("--single_gpu True", vae, why, "drop one of them"))
    return [
        Problem(f"{one} and {other}", None, f"contradict each other, {why}", near)
        for one, other, why, near in pairs
    ]


def _mode(request: Request) -> tuple[str, str]:
    """The mode and, where it was read from other flags, the sentence that says so."""
    if request.mode is not None:
        return request.mode, ""
    if request.variant is not None:
        return "tpp", f"Mode tpp was read from --variant {request.variant}."
    if request.dit_fsdp:
        return "fsdp", "Mode fsdp was read from --dit_fsdp."
    if request.fsdp_wrap != "block":
        return "fsdp", f"Mode fsdp was read from --fsdp_wrap {request.fsdp_wrap}."
    if request.num_gpus_dit is not None and request.num_gpus_dit > 1:
        extra = " and --enable_vae_parallel" if request.enable_vae_parallel else ""
        return "tpp", f"Mode tpp was read from --num_gpus_dit {request.num_gpus_dit}{extra}."
    if request.offload_model:
        return "offload", "Mode offload was read from --offload_model True on one GPU."
    if request.single_gpu:
        return "single", "Mode single was read from --single_gpu."
    if request.num_gpus_dit == 1:
        return "single", "Mode single was read from --num_gpus_dit 1."
    return "single", ""


def _dit_ranks(request: Request, mode: str, gpus: int | None) -> int:
    if request.num_gpus_dit is not None:
        return request.num_gpus_dit
    if mode in ("single", "offload"):
        return 1
    if not gpus and mode == AUTO:
        return 1
    if not gpus:
        return _CPU_FSDP_RANKS if mode == "fsdp" else request.sample_steps
    spare = gpus - request.enable_vae_parallel
    if mode == AUTO or request.variant in ("balanced", "ring"):
        return max(1, spare)  # these cut through layers: every device has work
    if mode == "fsdp" and spare < 2:
        needed = 2 + request.enable_vae_parallel
        raise ParamError(
            [
                Problem(
                    f"--mode {mode}" if request.mode else "--dit_fsdp",
                    None,
                    f"needs {needed} or more GPUs, {gpus} can be used here",
                    "use --mode single, or --gpus cpu for CPU ranks",
                )
            ]
        )
    return max(1, min(spare, request.sample_steps))


def _unavailable(request: Request, mode: str, available: Sequence[str]) -> Problem:
    flags = {
        "tpp": f"--num_gpus_dit {request.num_gpus_dit}",
        "offload": "--offload_model True",
        "fsdp": "--dit_fsdp",
        "single": "--single_gpu",
    }
    given = f"--mode {mode}" if request.mode else flags[mode]
    meaning = "" if request.mode else f"means mode {mode}, and "
    instead = (
        f"use --mode fsdp --num_gpus_dit {request.num_gpus_dit or 2}: the same frames, with the "
        "weights sharded over the ranks"
        if "fsdp" in available
        else f"use --mode {available[0]}"
    )
    return Problem(
        given,
        None,
        f"{meaning}this version does not run mode {mode}; it runs {' and '.join(available)}",
        instead,
    )


def _too_few_gpus(request: Request, ranks: int, gpus: int, own_vae: bool) -> Problem:
    vae = " (one of them for the VAE, --enable_vae_parallel)" if own_vae else ""
    given = "" if request.num_gpus_dit is None else str(request.num_gpus_dit)
    return Problem(
        "--num_gpus_dit",
        given or None,
        f"makes {ranks} ranks{vae}, {gpus} GPU{'s' if gpus > 1 else ''} can be used here",
        "lower it, choose more with --gpus, or run on CPU ranks with --gpus cpu",
    )


def _ulysses_remark(ulysses: int, dit_ranks: int) -> str:
    return (
        f"ulysses_size {ulysses} was read as 1: the 14B model's {_HEADS_14B} heads do not divide "
        f"by {ulysses}, and it would take "
        f"{dit_ranks * ulysses} GPUs ({dit_ranks} x {ulysses}). More devices than steps are used "
        "by --mode tpp --variant balanced."
    )


__all__ = ["ALL_MODES", "MODES_NOW", "ModeReading", "contradictions", "read_mode"]
