"""Advice that follows the measured state (F6): what would make this job faster, better, smaller.

Pure arithmetic on what was measured and predicted: a figure that nobody gave is not made up, and
a piece of advice without its figures is not given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from engine.sentence import sentence

Goal = Literal["faster", "better", "smaller"]
Basis = Literal["measured", "predicted"]

_GIB: Final = 1 << 30
#: Held and unused by the allocator: worth a word from this share of the peak on.
_SLACK_SHARE: Final = 0.10
#: Stages that differ by less are as balanced as they get.
_IMBALANCE: Final = 1.15
#: The decoder's share of a block from which a device of its own pays.
_DECODE_SHARE: Final = 0.15
#: A plan must promise at least this much to be named.
_GAIN: Final = 0.05


@dataclass(frozen=True)
class Alternative:
    """Another plan for the same job, as the solver predicted it.

    ``predicted_bytes`` is of the fullest device; ``alters_output`` names what changes the result.
    """

    change: Mapping[str, Any]
    predicted_bytes: int | None = None
    seconds_per_block: float | None = None
    alters_output: tuple[str, ...] = ()
    fits: bool = True
    better: bool = False  # more size, steps or precision than now


@dataclass(frozen=True)
class Measured:
    """What is known of a running or finished job. None and empty mean "not measured".

    Bytes and seconds. ``by_owner`` and ``peaks`` are per rank, in order of ranks;
    ``stage_seconds`` the time of each stage for one block, decoding counted where it also decodes;
    ``plan`` is ``Plan.to_dict()``.
    """

    plan: Mapping[str, Any] | None = None
    mode: str | None = None
    size: str | None = None
    steps: int | None = None
    fps: float | None = None
    target_fps: float | None = None
    usable_bytes: Sequence[int | None] = ()
    peaks: Sequence[int | None] = ()
    by_owner: Sequence[Mapping[str, int]] = ()
    stage_seconds: Sequence[float] = ()
    step_seconds: float | None = None
    decode_seconds: float | None = None
    seconds_per_block: float | None = None
    alternatives: Sequence[Alternative] = ()


@dataclass(frozen=True)
class Advice:
    """One suggestion. ``figures`` are the numbers in ``text``; ``change`` what it would change."""

    goal: Goal
    text: str
    change: Mapping[str, Any]
    alters_output: bool
    basis: Basis
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def advise(state: Measured) -> list[Advice]:
    """Everything the figures support: what leaves the output alone first, then by gain told."""
    found = [
        *_foreign(state),
        *_slack(state),
        *_root_unit(state),
        *_imbalance(state),
        *_decoder(state),
        *_steps(state),
        *_alternatives(state),
    ]
    order = {"faster": 0, "better": 1, "smaller": 2}
    return sorted(found, key=lambda a: (order[a.goal], a.alters_output))


def _foreign(state: Measured) -> Iterator[Advice]:
    for rank, owners in enumerate(state.by_owner):
        held = owners.get("foreign", 0)
        if held > 0:
            yield Advice(
                "smaller",
                sentence(
                    "Other processes hold {size} on the device of rank {rank}; it is free again"
                    " when they end.",
                    size=_gib(held),
                    rank=rank,
                ),
                {"kill_holder": rank},
                False,
                "measured",
                {"bytes": held},
            )


def _slack(state: Measured) -> Iterator[Advice]:
    for rank, owners in enumerate(state.by_owner):
        slack, peak = owners.get("slack", 0), _at(state.peaks, rank)
        if peak and slack >= _SLACK_SHARE * peak:
            yield Advice(
                "smaller",
                sentence(
                    "Rank {rank}'s allocator holds {unused} of its {peak} unused; growing"
                    " segments give much of it back.",
                    rank=rank,
                    unused=_gib(slack),
                    peak=_gib(peak),
                ),
                {"env": {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}},
                False,
                "measured",
                {"bytes": slack, "share": slack / peak},
            )


def _root_unit(state: Measured) -> Iterator[Advice]:
    unshard = (state.plan or {}).get("unshard")
    weights = (state.plan or {}).get("weights") or {}
    if not unshard or weights.get("wrap") != "reference":
        return
    root, unit = unshard.get("root_unit_bytes", 0), unshard.get("max_unit_bytes", 0)
    if root and root >= unit:
        yield Advice(
            "smaller",
            sentence(
                "The root unit gathers {size} at once; wrapped per block it would not.",
                size=_gib(root),
            ),
            {"fsdp_wrap": "block"},
            False,
            "predicted",
            {"bytes": root},
        )


def _imbalance(state: Measured) -> Iterator[Advice]:
    stages = [seconds for seconds in state.stage_seconds if seconds > 0]
    if len(stages) < 2:
        return
    slowest, mean = max(stages), sum(stages) / len(stages)
    even = max(mean, state.decode_seconds or 0.0)  # decoding a block is never cut
    if slowest >= _IMBALANCE * even:
        rank = list(state.stage_seconds).index(slowest)
        yield Advice(
            "faster",
            sentence(
                "Rank {rank} needs {slowest} s for a block, the mean is {mean} s: an even cut"
                " would give up to {times} times the throughput.",
                rank=rank,
                slowest=f"{slowest:.2f}",
                mean=f"{mean:.2f}",
                times=f"{slowest / even:.2f}",
            ),
            {"cut": "balanced"},
            False,
            "measured",
            {"slowest_seconds": slowest, "mean_seconds": mean, "speedup": slowest / even},
        )


def _decoder(state: Measured) -> Iterator[Advice]:
    plan = state.plan or {}
    decode, block = state.decode_seconds, state.seconds_per_block
    if not decode or not block or decode > block:
        return
    stages = {stage["rank"] for stage in plan.get("stages", ())}
    if plan.get("vae_rank") in stages and decode >= _DECODE_SHARE * block:
        yield Advice(
            "faster",
            sentence(
                "Decoding takes {decode} s of each block's {block} s on a device that also"
                " denoises; a device of its own takes that away.",
                decode=f"{decode:.2f}",
                block=f"{block:.2f}",
            ),
            {"enable_vae_parallel": True},
            False,
            "measured",
            {"decode_seconds": decode, "block_seconds": block, "share": decode / block},
        )


def _steps(state: Measured) -> Iterator[Advice]:
    """One step less or more, where steps run one after another on the same device."""
    if not state.step_seconds or not state.steps or not state.seconds_per_block:
        return
    if (state.mode or (state.plan or {}).get("mode")) not in ("single", "offload"):
        return
    if (state.plan or {}).get("order") == "diagonal":
        return
    one, block = state.step_seconds, state.seconds_per_block
    if state.steps > 1 and one < block:
        yield Advice(
            "faster",
            sentence(
                "{less} steps instead of {steps} save {saved} of {block} s per"
                " block; the picture changes.",
                less=state.steps - 1,
                steps=state.steps,
                saved=f"{one:.2f}",
                block=f"{block:.2f}",
            ),
            {"sample_steps": state.steps - 1},
            True,
            "measured",
            {"seconds": one, "share": one / block},
        )
    if state.fps and state.target_fps and state.fps * block / (block + one) >= state.target_fps:
        yield Advice(
            "better",
            sentence(
                "{more} steps would cost {seconds} s per block and still reach"
                " {fps} frames per second.",
                more=state.steps + 1,
                seconds=f"{one:.2f}",
                fps=f"{state.fps * block / (block + one):.1f}",
            ),
            {"sample_steps": state.steps + 1},
            True,
            "measured",
            {"seconds": one, "fps": state.fps * block / (block + one)},
        )


def _alternatives(state: Measured) -> Iterator[Advice]:
    peak = max((p for p in state.peaks if p is not None), default=None)
    for other in state.alternatives:
        if not other.fits:
            continue
        alters = bool(other.alters_output)
        what = ", ".join(f"{name} {value}" for name, value in other.change.items())
        seconds, now = other.seconds_per_block, state.seconds_per_block
        if seconds and now and seconds <= (1 - _GAIN) * now:
            yield Advice(
                "faster",
                sentence(
                    "{plan}: {seconds} instead of {now} s per block is predicted.",
                    plan=what,
                    seconds=f"{seconds:.2f}",
                    now=f"{now:.2f}",
                ),
                other.change,
                alters,
                "predicted",
                {"seconds": seconds, "now_seconds": now},
            )
        if other.predicted_bytes and peak and other.predicted_bytes <= (1 - _GAIN) * peak:
            yield Advice(
                "smaller",
                sentence(
                    "{plan}: {size} instead of {now} on the fullest device is predicted.",
                    plan=what,
                    size=_gib(other.predicted_bytes),
                    now=_gib(peak),
                ),
                other.change,
                alters,
                "predicted",
                {"bytes": other.predicted_bytes, "now_bytes": peak},
            )
        room = min((u for u in state.usable_bytes if u is not None), default=None)
        if other.better and other.predicted_bytes and room and other.predicted_bytes <= room:
            yield Advice(
                "better",
                sentence(
                    "{plan} fits: {size} of {room} are predicted.",
                    plan=what,
                    size=_gib(other.predicted_bytes),
                    room=_gib(room),
                ),
                other.change,
                alters,
                "predicted",
                {"bytes": other.predicted_bytes, "usable_bytes": room},
            )


def _at(values: Sequence[int | None], place: int) -> int | None:
    return values[place] if place < len(values) else None


def _gib(count: int) -> str:
    return f"{count / _GIB:.2f} GiB"
