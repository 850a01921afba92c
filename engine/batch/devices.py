"""Which devices a batch may have now, and what the planner says of a placement on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.batch.lines import Trial
from engine.guard.lease import LeaseHeld, take
from engine.offers import offers
from engine.params import ParamError, Request
from engine.preflight import Machine, PreflightError, prepare
from engine.telemetry.devices import DeviceSelectionError


def gpus_of(request: Mapping[str, Any], machine: Machine) -> tuple[str, ...]:
    """UUIDs of the GPUs that a request may have; none: CPU ranks.

    Raises:
        DeviceSelectionError: a named device is not there.
    """
    gpus = request.get("gpus")
    found = offers(machine.devices, gpus, os.environ)
    return tuple(offer.uuid for offer in found if offer.uuid is not None)


def held_by_others(devices: Sequence[str]) -> LeaseHeld | None:
    """The first device that another engine leases now, by its holder's own words."""
    for device in devices:
        if device == "cpu":
            continue
        try:
            take(device).release()
        except LeaseHeld as held:
            if held.holder.pid != os.getpid():
                return held
        except OSError:
            continue  # nowhere to keep leases: the job itself will say so
    return None


def planner(
    machine: Machine, samples: Mapping[str, Mapping[str, Any]], folder: Path
) -> Callable[[Mapping[str, Any]], Trial]:
    """Ask the engine's own preflight what a placement would do.

    Args:
        samples: one whole request per frame size, as items have them.
    """

    def plan(changes: Mapping[str, Any]) -> Trial:
        speed: dict[str, float] = {}
        mode, ranks = "", 1
        for size, sample in samples.items():
            try:
                request = Request.from_dict({**sample, **changes})
                prepared = prepare(request, machine, (folder,))
            except (PreflightError, ParamError, DeviceSelectionError) as error:
                return Trial(False, str(error))
            found = prepared.plan
            mode, ranks = found.mode, found.world_size
            if found.seconds_per_block is not None:
                speed[size] = found.seconds_per_block
        return Trial(True, "", mode, ranks, speed)

    return plan
