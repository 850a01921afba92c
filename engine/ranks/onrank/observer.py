"""What a rank tells while it works: steps, unshards, spikes and its ledger, at a bearable rate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final, Protocol

from torch import Tensor

from engine.model.generate import Generation
from engine.placement.onrank.executor import layers_of
from engine.placement.onrank.groups import dit_ranks
from engine.placement.onrank.schedule import Tick, Work
from engine.placement.onrank.state import Keeper
from engine.placement.onrank.unshards import UnshardMeter
from engine.placement.plan import Plan
from engine.ranks.onrank.ledger import Ledger, Threshold, Throttle
from engine.sentence import sentence

#: Most ledger reports a second, besides those at a phase's or a spike's time.
LEDGER_RATE: Final = 4.0


class Telling(Protocol):
    """The part of the reporter that is used here (``engine.ranks.onrank.report.Reporter``)."""

    def send(self, kind: str, **data: object) -> None: ...
    def phase(
        self, phase: str, *, role: str = "", detail: str = "", progress: float | None = None
    ) -> None: ...
    def tick(self, tick: int) -> None: ...


class RankObserver:
    """Keeps the ledger up to date around units of work, and reports.

    Args:
        operator_threshold: bytes the operator has set, asked again before every unit of work;
            None: the plan's own threshold.
        own_threshold: whether the plan's threshold is the request's figure, not a prediction.
    """

    def __init__(
        self,
        report: Telling,
        ledger: Ledger,
        plan: Plan,
        rank: int,
        *,
        operator_threshold: Callable[[], int | None],
        own_threshold: bool = False,
    ) -> None:
        self.report, self.ledger = report, ledger
        self.meter = UnshardMeter(ledger)
        self.role = role_of(plan, rank)
        self._operator = operator_threshold
        context = plan.devices[rank].by_owner.get("context", 0)
        self._planned = Threshold(plan.spike_threshold_bytes[rank], context, own_threshold)
        self._running = False
        self._throttle = Throttle(LEDGER_RATE)
        #: Where this rank's part of the state is mirrored, once it is.
        self.keeper: Keeper | None = None
        self.first_block = 0  # blocks of the video before those that are counted here

    def phase(self, phase: str, detail: str = "", progress: float | None = None) -> None:
        """Enter a phase; the ledger is told with it."""
        self._running = phase == "running"
        self.report.phase(phase, role=self.role, detail=detail, progress=progress)
        self.tell_ledger(force=True)

    @contextmanager
    def window(self, label: str, owner: str = "activations") -> Iterator[None]:
        """Around a unit of work whose peak is measured."""
        self.ledger.threshold = self._threshold()
        with self.ledger.window(label, owner):
            yield
        spikes = self.ledger.take_spikes()
        for spike in spikes:
            self.report.send("spike", **spike.to_dict())
        self.tell_ledger(force=bool(spikes))

    def _threshold(self) -> Threshold | None:
        chosen = self._operator()
        if chosen is not None:
            return Threshold(chosen, absolute=True)
        # A prediction is of the steady state: it says nothing of loading.
        return self._planned if self._running or self._planned.absolute else None

    def caches(self, generation: Generation) -> None:
        """Book the conditioning as it is now."""
        self.ledger.book("conditioning", generation.conditioning_nbytes)

    def tick_done(self, tick: Tick, mine: tuple[Work, ...], seconds: float) -> None:
        """One walk ended: its unshards, and the steps this rank computed in it."""
        self.report.tick(tick.index)
        records = self.meter.take()
        if records:
            self.report.send("unshards", records=[asdict(record) for record in records])
        for work in mine:
            block = self.first_block + work.block
            self.report.send("step", step=work.step, block=block, seconds=seconds)

    def done(self, step: int, block: int, latent: Tensor | None) -> None:
        """Mirror what was computed, where that is wanted."""
        if self.keeper is not None:
            self.keeper.done(step, block, latent)

    def tell_ledger(self, *, force: bool = False) -> None:
        """Report the ledger if one is due."""
        if self._throttle.due(force=force):
            self.report.send("ledger", **self.ledger.report())


def role_of(plan: Plan, rank: int) -> str:
    """What a rank does, in words: ``"step 1-2 of 4"``, ``"step 4 of 4, VAE"``, ``"ghost"``.

    Where steps are cut by layers: ``"step 1-4 of 4, layer 11-20 of 40"``.
    """
    held = layers_of(plan, rank)
    parts: list[str] = []
    if held:
        parts.append(sentence("step {steps} of {most}", steps=_span(held), most=plan.sample_steps))
        whole = max(stage.layers[1] for stage in plan.stages)
        if any(len(layers) < whole for layers in held.values()):
            spans = dict.fromkeys(_span(layers) for layers in held.values())
            parts.append(
                sentence("layer {layers} of {most}", layers=" and ".join(spans), most=whole)
            )
    elif rank in dit_ranks(plan):
        parts.append("ghost")
    if rank == plan.vae_rank:
        parts.append("VAE")
    return ", ".join(parts)


def _span(numbers: Collection[int]) -> str:
    """Numbers from 0 as people count: 0 1 → ``"1-2"``."""
    first, last = min(numbers) + 1, max(numbers) + 1
    return str(first) if first == last else f"{first}-{last}"
