"""Other ways to do the same work: what fits instead, nearest first, and what ``auto`` picks.

An alternative that changes the output says so (``alters_output``) and is never applied by itself:
``auto`` chooses among placements alone, which all give the same latents.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, cast

from engine.geometry import SIZE_MULTIPLE
from engine.parameters.modes import is_articles_line
from engine.placement.built import unbuilt
from engine.placement.hardware import FP8_CAPABILITY
from engine.placement.place import Question, default_dtype, place, wrap_of
from engine.placement.plan import DType, Mode, Plan, Variant
from engine.placement.presets import VAE_STEPS, Choice
from engine.sentence import joined, sentence

#: How many are told, and how many of those change the output in the same way.
_MOST: Final = 8
_MOST_ALIKE: Final = 3
#: Sides of smaller frames that are tried, in parts of the asked ones.
_SCALES: Final = (0.9, 0.8, 0.7, 0.6, 0.5)

#: Work beside its arithmetic: a block's time in steps is multiplied by this, for ordering only.
_OVERHEAD: Final[dict[tuple[str, str], float]] = {
    ("tpp", "ring"): 1.02,
    ("fsdp", ""): 1.05,
    ("offload", ""): 1.1,
    ("tpp", "streamed"): 1.5,
}


#: In which order modes are told.
_ORDER: Final = (
    ("single", ""),
    ("offload", ""),
    ("tpp", ""),
    ("tpp", "balanced"),
    ("tpp", "ring"),
    ("tpp", "streamed"),
    ("fsdp", ""),
)


@dataclass(frozen=True)
class Alternative:
    """A plan that fits. ``flags`` are what to ask for; ``size`` is that of its frames."""

    plan: Plan
    size: tuple[int, int]
    alters_output: tuple[str, ...]  # of "dtype", "KV precision", "size"
    flags: str
    unbuilt: tuple[str, ...]

    @property
    def built(self) -> bool:
        """Whether this version can launch it."""
        return not self.unbuilt


def alternatives(question: Question, asked: Choice) -> tuple[Alternative, ...]:
    """Plans other than ``asked`` that fit, ranked.

    First those that leave the output as it is, then those that change one thing, then more; among
    equals those that can be launched now, those of the asked mode, and the faster ones.
    """
    found: list[Alternative] = []
    precisions = list(_precisions(question, asked))
    for altered, dtype, kv_dtype in precisions:
        found += _fitting(question, asked, dtype, kv_dtype, altered)
    least, dtype, kv_dtype = precisions[0]
    if not any(len(a.alters_output) <= max(1, len(least)) for a in found):
        found += _fitting_smaller(question, asked, dtype, kv_dtype, least)
    for altered, dtype, kv_dtype in precisions[1:]:
        if not found:
            found += _fitting_smaller(question, asked, dtype, kv_dtype, altered)
    found.sort(key=lambda a: (len(a.alters_output), not a.built))
    kept: list[Alternative] = []
    for one in found:
        alike = [a.plan for a in kept if a.alters_output == one.alters_output]
        # One of each kind tells more than the same on one device fewer.
        known = any((p.mode, p.variant) == (one.plan.mode, one.plan.variant) for p in alike)
        if not known and len(alike) < _MOST_ALIKE and len(kept) < _MOST:
            kept.append(one)
    return tuple(kept)


def overview(question: Question, asked: Choice) -> tuple[tuple[Choice, Plan], ...]:
    """Every mode and variant side by side, each at its best on these devices, fits or not.

    Types are those of ``asked``, so all of them give the same latents.
    """
    best: dict[tuple[str, str], tuple[Choice, Plan]] = {}
    for choice in _placements(question, asked):
        key = (choice.mode, choice.variant)
        known = best.get(key)
        if known is not None and known[1].fits:
            continue
        plan = place(question, choice)
        if known is None or plan.fits or _excess(plan) < _excess(known[1]):
            best[key] = choice, plan
    return tuple(best[key] for key in _ORDER if key in best)


def choose(question: Question) -> Plan:
    """What ``auto`` means: the fastest placement that fits, runs here and changes no output.

    Its remarks say why, and why the faster ones were passed over. If none fits, the nearest to
    fit is returned with its reasons.
    """
    dtype = default_dtype(question)
    kv_dtype = question.request.kv_dtype
    base = Choice(
        mode="single",
        dit_ranks=1,
        dtype=dtype,
        kv_dtype="fp8" if kv_dtype == "fp8" else "bf16" if dtype == "fp8" else dtype,
        wrap=wrap_of(question),
    )
    passed: list[str] = []
    misfits: list[Plan] = []
    for choice in _placements(question, base):
        plan = place(question, choice)
        if missing := unbuilt(plan):
            if plan.fits:
                passed.append(
                    sentence(
                        "{plan} would fit and be faster, but is not built yet", plan=title(plan)
                    )
                )
            misfits.append(dataclasses.replace(plan, fits=False, reasons=missing + plan.reasons))
            continue
        if plan.fits:
            why = sentence(
                "Mode auto picked {plan}: the fastest that fits and runs here.", plan=title(plan)
            )
            told = [sentence("{what}.", what=line) for line in passed[:3]]
            return dataclasses.replace(plan, remarks=(why, *told, *plan.remarks))
        passed.append(sentence("{plan} does not fit: {why}", plan=title(plan), why=plan.reasons[0]))
        misfits.append(plan)
    runs = [plan for plan in misfits if not unbuilt(plan)] or misfits
    able = [plan for plan in runs if plan.possible]
    nearest = min(able or runs, key=_excess)
    why = (
        sentence("Mode auto found nothing that fits; the nearest is {plan}.", plan=title(nearest))
        if able
        else sentence("Mode auto found nothing that can run here with these types of data.")
    )
    return dataclasses.replace(nearest, remarks=(why, *nearest.remarks))


def title(plan: Plan) -> str:
    """A plan's placement in a few words."""
    name: str = f"{plan.mode} {plan.variant}".strip()
    if plan.world_size > 1:
        name = sentence("{mode} on {count} devices", mode=name, count=plan.world_size)
    parts = [name]
    if plan.vae_rank not in {stage.rank for stage in plan.stages}:
        parts.append(sentence("one for the VAE"))
    if plan.dtype == "fp8":
        parts.append("fp8")
    if plan.kv_dtype == "fp8":
        parts.append(sentence("KV in fp8"))
    if plan.kv == "host":
        parts.append(sentence("KV on the host"))
    return joined(parts, ", ")


def flags_of(choice: Choice, size: tuple[int, int] | None = None) -> str:
    """The flags that ask for a choice."""
    parts = [f"--mode {choice.mode}"]
    if choice.mode in ("tpp", "fsdp"):
        parts.append(f"--num_gpus_dit {choice.dit_ranks}")
    if choice.variant:
        parts.append(f"--variant {choice.variant}")
    if choice.own_vae:
        parts.append("--enable_vae_parallel")
    if choice.kv == "host":
        parts.append("--kv_home host")
    if choice.dtype == "fp8":
        parts.append("--fp8")
    if choice.kv_dtype == "fp8":
        parts.append("--kv_dtype fp8")
    if size is not None:
        parts.append(f"--size {size[0]}*{size[1]}")
    return " ".join(parts)


def block_cost(choice: Choice, steps: int) -> float:
    """Time of a block in the steady state, in units of one step on one device; for ordering."""
    vae = 0.0 if choice.own_vae else VAE_STEPS
    if choice.mode in ("single", "offload"):
        cost = steps + vae
    elif choice.variant in ("balanced", "ring"):
        cost = max((steps + vae) / choice.dit_ranks, vae)
    else:
        # Earlier ranks take the steps that are left over, the last one the VAE.
        most, least = -(-steps // choice.dit_ranks), steps // choice.dit_ranks
        cost = max(most, (least or most) + vae)
    on_host = 1.3 if choice.kv == "host" else 1.0
    return cost * _OVERHEAD.get((choice.mode, choice.variant), 1.0) * on_host


def speed_key(question: Question) -> Callable[[Choice], tuple[float, float, float]]:
    """What choices are sorted by, fastest first."""
    steps = question.request.sample_steps
    if question.kind == "cpu":
        # CPU ranks share the host's cores: more of them are not faster.
        return lambda c: (c.mode != "single", c.world, block_cost(c, steps))
    return lambda c: (block_cost(c, steps), c.world, 0)


def _fitting(
    question: Question, asked: Choice, dtype: DType, kv_dtype: DType, altered: tuple[str, ...]
) -> list[Alternative]:
    found = []
    base = dataclasses.replace(asked, dtype=dtype, kv_dtype=kv_dtype)

    def far(choice: Choice) -> tuple[bool, bool]:
        # On CPU ranks fewer come first otherwise, whatever was asked for.
        ranks = question.kind == "cpu" and choice.dit_ranks != asked.dit_ranks
        return choice.mode != asked.mode, ranks

    for choice in sorted(_placements(question, base), key=far):
        known = not altered and choice == _as_asked(asked, choice)
        if known and question.request.ulysses_size == 1:
            continue  # it is what does not fit
        plan = place(question, choice)
        if plan.fits:
            size = question.size if "size" in altered else None
            flags = flags_of(choice, size)
            found.append(Alternative(plan, question.size, altered, flags, unbuilt(plan)))
    return found


def _fitting_smaller(
    question: Question, asked: Choice, dtype: DType, kv_dtype: DType, altered: tuple[str, ...]
) -> list[Alternative]:
    """What fits with the largest of the smaller frames that anything fits with."""
    for smaller in _smaller(question):
        if fits := _fitting(smaller, asked, dtype, kv_dtype, (*altered, "size")):
            return fits
    return []


def _as_asked(asked: Choice, choice: Choice) -> Choice:
    """``asked`` with what placements leave open as in ``choice``."""
    return dataclasses.replace(asked, slots=choice.slots, resident_layers=choice.resident_layers)


def _placements(question: Question, base: Choice) -> list[Choice]:
    """Every placement on the question's devices with the types of ``base``, fastest first."""
    steps = question.request.sample_steps
    request, fixed = question.request, question.request.num_gpus_dit
    gpus = len(question.devices) if question.kind == "cuda" else 0
    if fixed and gpus and not is_articles_line(request):
        fixed *= request.ulysses_size  # that many devices were asked for
    # More ranks than there are devices: what would fit has fewer.
    held = fixed and (not gpus or fixed <= gpus)
    counts = [fixed] if fixed and held else _counts(steps, gpus or base.dit_ranks)
    found: list[Choice] = []

    def add(
        mode: Mode, ranks: int, variant: Variant = "", *, own: bool = False, host: bool = False
    ) -> None:
        if not gpus or ranks + own <= gpus:
            choice = dataclasses.replace(
                base,
                mode=mode,
                dit_ranks=ranks,
                variant=variant,
                own_vae=own,
                kv="host" if host else "device",
                resident_layers=None,
                vae_share=1.0,
            )
            found.append(choice)

    for host in (False, True):
        add("single", 1, host=host)
        add("offload", 1, host=host)
    for ranks, own, host in itertools.product(counts, (False, True), (False, True)):
        if ranks < 2:
            continue
        if ranks <= steps:
            add("tpp", ranks, own=own, host=host)
            add("tpp", ranks, "streamed", own=own, host=host)
        add("tpp", ranks, "balanced", own=own, host=host)
        if ranks <= question.shape.num_layers:
            add("tpp", ranks, "ring", own=own, host=host)
        add("fsdp", ranks, own=own, host=host)
    return sorted(found, key=speed_key(question))


def _counts(steps: int, most: int) -> list[int]:
    """Numbers of DiT ranks worth trying: all devices, all but the VAE's, one per step."""
    return sorted({n for n in (most, most - 1, min(steps, most)) if n >= 1})


def _precisions(
    question: Question, asked: Choice
) -> Iterator[tuple[tuple[str, ...], DType, DType]]:
    """What the output is altered in, type of the weights, type of keys and values; least first."""
    able = all(
        device.capability is None or device.capability >= FP8_CAPABILITY
        for device in question.devices
    )
    if question.kind == "cuda" and not able:
        # fp8 that was asked for cannot be had: what these devices can compute is the nearest.
        dtype, kv_dtype = (t if t != "fp8" else "bf16" for t in (asked.dtype, asked.kv_dtype))
        changed = [
            name
            for name, was, now in (
                ("dtype", asked.dtype, dtype),
                ("KV precision", asked.kv_dtype, kv_dtype),
            )
            if was != now
        ]
        yield tuple(changed), cast(DType, dtype), cast(DType, kv_dtype)
        return
    yield (), asked.dtype, asked.kv_dtype
    if question.kind == "cpu":
        if asked.kv_dtype != "fp8":
            yield ("KV precision",), asked.dtype, "fp8"
        return
    weights, keys = asked.dtype != "fp8", asked.kv_dtype != "fp8"
    if weights:
        yield ("dtype",), "fp8", asked.kv_dtype
    if keys:
        yield ("KV precision",), asked.dtype, "fp8"
    if weights and keys:
        yield ("dtype", "KV precision"), "fp8", "fp8"


def _smaller(question: Question) -> Iterator[Question]:
    seen = {question.size}
    for scale in _SCALES:
        width, height = (_floor(side * scale) for side in question.size)
        if (width, height) not in seen:
            seen.add((width, height))
            yield dataclasses.replace(question, size=(width, height))


def _floor(side: float) -> int:
    return max(SIZE_MULTIPLE, int(side) // SIZE_MULTIPLE * SIZE_MULTIPLE)


def _excess(plan: Plan) -> int:
    """Bytes that the worst device is short of; at least 0 where memory is not what is lacking."""
    excess = max(
        d.predicted_bytes + d.margin_bytes - (d.usable_bytes or d.predicted_bytes)
        for d in plan.devices
    )
    return excess if plan.possible else max(excess, 0)
