"""The one line that gives an engine its releases."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from engine.client import EngineClient
from engine.offers import torch_is_cpu_only
from engine.release import comm
from engine.release.gates import Sample
from engine.release.model import Release, ReleaseError
from engine.release.player import job_clips
from engine.release.quality import compare
from engine.release.service import Host, ReleaseService
from engine.release.settings import Settings, load, shipped
from engine.release.validate import verify_video
from engine.sentence import sentence

if TYPE_CHECKING:
    from engine.services import Services


def open_releases(services: Services, client: EngineClient) -> ReleaseService:
    """Releases of an open engine, its queue's claims included. The engine's loop only.

    Raises:
        StoreError: what was left of them cannot be read.
    """
    settings = _settings(services)

    async def bench(versions: tuple[Release, Release]) -> list[Sample] | None:
        machine = await services.machine()
        chosen = comm.devices(machine.devices, torch_is_cpu_only())
        if len(chosen) < 2:
            return None
        await services.warm.clear(
            {d.uuid if d else None for d in chosen}, sentence("a benchmark needs them")
        )
        pairs = settings.communication_pairs
        return await comm.pairs(
            services.server, chosen, versions, pairs, str(services.places.state)
        )

    def door() -> EngineClient | None:
        from engine.remote.client import attach

        with contextlib.suppress(OSError):
            return attach(services.places, kind="verb")
        return None

    service = ReleaseService(
        Host(
            jobs=services.store,
            bus=services.bus,
            client=client,
            places=services.places,
            settings=settings,
            machine=services.machine,
            held=services.queue.held,
            bench=bench,
            door=door,
            measure=partial(job_clips, services.places),
            likeness=compare,
            verify=verify_video,
        )
    )
    services.queue.claim = service.claim
    service.open()
    return service


def _settings(services: Services) -> Settings:
    """The settings in force; a broken file of the user's is told and the defaults stand."""
    try:
        return load()
    except ReleaseError as error:
        services.bus.log("ERROR", f"{error}; the settings that ship with avatop are used")
        return shipped()
