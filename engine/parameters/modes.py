"""Which mode the flags mean: the table of docs/cli.md, contradictions, ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.parameters.problems import ParamError, Problem
from engine.parameters.request import Request
from engine.parameters.table import ALL_MODES, AUTO, MODES_NOW
from engine.sentence import sentence

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
            sentence(
                "enable_vae_parallel has no effect: mode {mode} runs on one rank, which "
                "also serves the VAE.",
                mode=mode,
            )
        )
    more = sentence(
        "{dit} DiT ranks for {sample_steps} steps", dit=dit, sample_steps=request.sample_steps
    )
    if dit > request.sample_steps and mode == "fsdp":
        remarks.append(
            sentence(
                "{more}: {dit} compute none and hold shards only.",
                more=more,
                dit=dit - request.sample_steps,
            )
        )
    if dit > request.sample_steps and mode == "tpp" and request.variant in (None, "streamed"):
        remarks.append(
            sentence("{more}: the cut runs through layers too, as in variant balanced.", more=more)
        )
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
        why = sentence("both say which program runs")
        pairs.append(("--command", f"--profile {r.profile}", why, sentence("drop one of them")))
    vae = "--enable_vae_parallel True"
    if r.mode is not None:
        mode = f"--mode {r.mode}"
        if r.offload_model and r.mode != "offload":
            why = sentence("offload_model means mode offload")
            pairs.append(
                (mode, "--offload_model True", why, sentence("use --mode offload, or drop it"))
            )
        if r.offload_model is False and r.mode == "offload":
            why = sentence("mode offload offloads the model")
            pairs.append(
                (mode, "--offload_model False", why, sentence("drop it, or use --mode single"))
            )
        if r.dit_fsdp and r.mode != "fsdp":
            pairs.append(
                (
                    mode,
                    "--dit_fsdp True",
                    sentence("dit_fsdp means mode fsdp"),
                    sentence("use --mode fsdp"),
                )
            )
        if r.single_gpu and r.mode not in ("single", "offload"):
            why = sentence("mode {mode} runs on several devices", mode=r.mode)
            pairs.append(
                (mode, "--single_gpu True", why, sentence("use --mode single, or drop it"))
            )
        if many and r.mode in ("single", "offload"):
            why = sentence("mode {mode} runs on one rank", mode=r.mode)
            near = sentence("use --mode tpp {dit} or --mode fsdp {dit}, or drop {dit}", dit=dit)
            pairs.append((mode, dit, why, near))
        if r.num_gpus_dit == 1 and r.mode == "fsdp":
            why = sentence("mode fsdp shards the weights over 2 or more ranks")
            pairs.append((mode, dit, why, sentence("use --num_gpus_dit 2, or --mode single")))
        if r.enable_vae_parallel and r.mode == "single":
            why = sentence("a rank of the VAE's own makes it two")
            pairs.append(
                (
                    mode,
                    vae,
                    why,
                    sentence("use --mode tpp --num_gpus_dit 1 {vae}, or drop it", vae=vae),
                )
            )
        if r.variant is not None and r.mode not in ("tpp", AUTO):
            why = sentence("variants are of mode tpp")
            near = sentence("use --mode tpp --variant {variant}, or drop it", variant=r.variant)
            pairs.append((mode, f"--variant {r.variant}", why, near))
        if r.variant is not None and r.mode == AUTO:
            why = sentence("auto picks the variant too")
            pairs.append(
                (mode, f"--variant {r.variant}", why, sentence("use --mode tpp, or drop it"))
            )
    else:
        if r.dit_fsdp and r.offload_model:
            why = sentence("one means mode fsdp, one offload")
            pairs.append(
                ("--dit_fsdp True", "--offload_model True", why, sentence("drop one of them"))
            )
        if r.dit_fsdp and r.num_gpus_dit == 1:
            why = sentence("fsdp shards over 2 or more ranks")
            pairs.append(("--dit_fsdp True", dit, why, sentence("use --num_gpus_dit 2")))
        if many and r.offload_model and not r.dit_fsdp:
            why = sentence("one means mode tpp, one offload")
            near = sentence(
                "use --mode tpp {dit} --variant streamed: weights from the host, on every rank",
                dit=dit,
            )
            pairs.append((dit, "--offload_model True", why, near))
        for given, flag in (
            (r.dit_fsdp, "--dit_fsdp True"),
            (r.offload_model, "--offload_model True"),
            (r.single_gpu, "--single_gpu True"),
        ):
            if r.variant is not None and given:
                why = sentence("variants are of mode tpp, the other flag means another mode")
                near = sentence(
                    "use --mode tpp --variant {variant}, or drop one", variant=r.variant
                )
                pairs.append((f"--variant {r.variant}", flag, why, near))
    if r.fp8 and r.dtype is not None and r.dtype != "bf16":
        why = sentence("fp8 weights are computed with in bf16")
        pairs.append(("--fp8 True", f"--dtype {r.dtype}", why, sentence("drop one of them")))
    sharding = r.mode == "fsdp" or (r.mode is None and (r.dit_fsdp or r.fsdp_wrap != "block"))
    streaming = r.mode in ("offload", AUTO) or r.variant == "streamed"
    streaming |= r.mode is None and bool(r.offload_model)
    meant = (
        f"--mode {r.mode}" if r.mode is not None else sentence("the mode that the other flags mean")
    )
    if r.fsdp_wrap != "block" and not (sharding or r.mode == AUTO):
        why = sentence("only mode fsdp gathers weights")
        near = sentence(
            "use --mode fsdp --fsdp_wrap {fsdp_wrap}, or drop it", fsdp_wrap=r.fsdp_wrap
        )
        pairs.append((meant, f"--fsdp_wrap {r.fsdp_wrap}", why, near))
    if r.prefetch is not None and not (sharding or r.mode == AUTO):
        why = sentence("only mode fsdp gathers weights ahead")
        near = sentence("use --mode fsdp --prefetch {prefetch}, or drop it", prefetch=r.prefetch)
        pairs.append((meant, f"--prefetch {r.prefetch}", why, near))
    if r.resident_layers is not None and not streaming:
        why = sentence("only streamed weights can stay in part")
        near = sentence(
            "use --mode offload --resident_layers {resident_layers}, or drop it",
            resident_layers=r.resident_layers,
        )
        pairs.append((meant, f"--resident_layers {r.resident_layers}", why, near))
    if r.single_gpu:
        if many:
            why = sentence("a single GPU holds one rank")
            pairs.append(("--single_gpu True", dit, why, sentence("drop one of them")))
        if r.dit_fsdp:
            why = sentence("fsdp needs 2 or more ranks")
            near = sentence("use --dit_fsdp --num_gpus_dit {ranks} alone, or drop it", ranks=ranks)
            pairs.append(("--single_gpu True", "--dit_fsdp True", why, near))
        if r.enable_vae_parallel:
            why = sentence("the VAE would need a second")
            pairs.append(("--single_gpu True", vae, why, sentence("drop one of them")))
    return [
        Problem(
            sentence("{one} and {other}", one=one, other=other),
            None,
            sentence("contradict each other, {why}", why=why),
            near,
        )
        for one, other, why, near in pairs
    ]


def _mode(request: Request) -> tuple[str, str]:
    """The mode and, where it was read from other flags, the sentence that says so."""
    if request.mode is not None:
        return request.mode, ""
    if request.variant is not None:
        return "tpp", sentence(
            "Mode tpp was read from --variant {variant}.", variant=request.variant
        )
    if request.dit_fsdp:
        return "fsdp", sentence("Mode fsdp was read from --dit_fsdp.")
    if request.fsdp_wrap != "block":
        return "fsdp", sentence(
            "Mode fsdp was read from --fsdp_wrap {fsdp_wrap}.", fsdp_wrap=request.fsdp_wrap
        )
    if request.num_gpus_dit is not None and request.num_gpus_dit > 1:
        flags = f"--num_gpus_dit {request.num_gpus_dit}"
        if request.enable_vae_parallel:
            return "tpp", sentence(
                "Mode tpp was read from {flags} and --enable_vae_parallel.", flags=flags
            )
        return "tpp", sentence("Mode tpp was read from {flags}.", flags=flags)
    if request.offload_model:
        return "offload", sentence("Mode offload was read from --offload_model True on one GPU.")
    if request.single_gpu:
        return "single", sentence("Mode single was read from --single_gpu.")
    if request.num_gpus_dit == 1:
        return "single", sentence("Mode single was read from --num_gpus_dit 1.")
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
                    sentence(
                        "needs {needed} or more GPUs, {gpus} can be used here",
                        needed=needed,
                        gpus=gpus,
                    ),
                    sentence("use --mode single, or --gpus cpu for CPU ranks"),
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
    runs = sentence(
        "this version does not run mode {mode}; it runs {available}",
        mode=mode,
        available=" and ".join(available),
    )
    instead = (
        sentence(
            "use --mode fsdp --num_gpus_dit {num_gpus_dit}: the same frames, with the "
            "weights sharded over the ranks",
            num_gpus_dit=request.num_gpus_dit or 2,
        )
        if "fsdp" in available
        else sentence("use --mode {available}", available=available[0])
    )
    return Problem(
        given,
        None,
        runs if request.mode else sentence("means mode {mode}, and {what}", mode=mode, what=runs),
        instead,
    )


def _too_few_gpus(request: Request, ranks: int, gpus: int, own_vae: bool) -> Problem:
    why = (
        sentence(
            "makes {ranks} ranks (one of them for the VAE, --enable_vae_parallel), {gpus} GPUs can "
            "be used here",
            ranks=ranks,
            gpus=gpus,
        )
        if own_vae
        else sentence("makes {ranks} ranks, {gpus} GPUs can be used here", ranks=ranks, gpus=gpus)
    )
    given = "" if request.num_gpus_dit is None else str(request.num_gpus_dit)
    return Problem(
        "--num_gpus_dit",
        given or None,
        why,
        sentence("lower it, choose more with --gpus, or run on CPU ranks with --gpus cpu"),
    )


def _ulysses_remark(ulysses: int, dit_ranks: int) -> str:
    return sentence(
        "ulysses_size {ulysses} was read as 1: the 14B model's {heads} heads do "
        "not divide by {ulysses}, and it would take {gpus} GPUs ({ranks} x "
        "{ulysses}). More devices than steps are used by --mode tpp --variant "
        "balanced.",
        ulysses=ulysses,
        heads=_HEADS_14B,
        gpus=dit_ranks * ulysses,
        ranks=dit_ranks,
    )


__all__ = ["ALL_MODES", "MODES_NOW", "ModeReading", "contradictions", "read_mode"]
