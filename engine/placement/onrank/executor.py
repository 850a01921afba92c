"""Which executor walks a plan, and what of the plan is a rank's."""

from __future__ import annotations

from collections.abc import Callable

from engine.model.generate import Generation
from engine.placement.onrank.groups import Groups
from engine.placement.onrank.lockstep import Lockstep
from engine.placement.onrank.observe import Duty, Executor, Network, Observer, Quiet
from engine.placement.onrank.pipeline import Pipeline
from engine.placement.onrank.route import Route
from engine.placement.plan import Plan


def executor_for(
    plan: Plan,
    rank: int,
    generation: Generation,
    network: Network,
    groups: Groups,
    *,
    frame: tuple[int, int],
    stop: Callable[[], bool] = lambda: False,
    observer: Observer | None = None,
) -> Executor:
    """The executor of ``plan``; arguments as of ``Duty``."""
    seen = observer or Quiet()
    duty = Duty(plan, rank, generation, network, groups, frame, stop, seen)
    return Lockstep(duty) if in_lock_step(plan) else Pipeline(duty)


def in_lock_step(plan: Plan) -> bool:
    """Whether every walk serves all items of a rank: weights that are not there to stay."""
    if plan.weights.kind == "resident":
        return False
    whole = max(stage.layers[1] for stage in plan.stages)
    cut = any(stage.layers != (0, whole) for stage in plan.stages)
    return plan.weights.kind == "peer_gather" or not cut


def steps_of(plan: Plan, rank: int) -> tuple[int, ...]:
    """Steps that a rank computes or has layers of; none for a ghost or a VAE rank of its own."""
    return tuple(sorted(Route.of(plan).steps_on(rank)))


def layers_of(plan: Plan, rank: int) -> dict[int, tuple[int, ...]]:
    """Step → layers that a rank computes of it."""
    return Route.of(plan).steps_on(rank)
