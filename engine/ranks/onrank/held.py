"""What stays in a rank's process between two jobs: network, VAE, and what one prompt came to.

Everything that belongs to a job alone (rings, conditioning, latents, groups) goes with it. A job
on kept weights computes what a fresh one computes, from the very same numbers: equal bytes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch

from engine.model.caches import JobMemory
from engine.model.vae import VAE
from engine.placement.onrank.once import Once
from engine.placement.onrank.weights import Loaded
from engine.ranks.onrank.probe import CpuProbe, Probe, probe_for

#: What work beside the kept weights takes besides what it loads, in bytes.
_ROOM: Final = 1 << 30


@dataclass(frozen=True)
class _Weights:
    name: str
    loaded: Loaded
    size: int
    vae: VAE | None
    once: Once


class Held:
    """A rank's main thread keeps it."""

    def __init__(self) -> None:
        self._probe: Probe | None = None
        self._weights: _Weights | None = None

    def probe(self, device: torch.device) -> Probe:
        """The rank's probe, made for every job anew; on the CPU the first one's, which alone knows
        what the process took before it loaded anything."""
        if not isinstance(self._probe, CpuProbe):
            self._probe = probe_for(device)
        return self._probe

    def expect(self, name: str | None) -> None:
        """Forget what is kept, unless it is what this job runs on."""
        if self._weights is not None and self._weights.name != name:
            self._weights = None

    def keep(
        self, name: str | None, loaded: Loaded, size: int, vae: VAE | None, once: Once
    ) -> None:
        """Keep a job's weights, ``size`` bytes booked, under a name; None: nothing is kept."""
        self._weights = None
        if name is not None:
            known = Once(once.context.clone(), tuple(once.timesteps))
            self._weights = _Weights(name, loaded, size, vae, known)

    @property
    def vae(self) -> VAE | None:
        """The kept VAE, ready on its device."""
        return None if self._weights is None else self._weights.vae

    def loaded(self, once: Once, compute: Callable[[], JobMemory]) -> tuple[Loaded, int] | None:
        """The kept network with what this job needs once, and its bytes; None: nothing is kept.

        Args:
            compute: reads the weights that were left out, where the prompt or steps are others.
        """
        if self._weights is None:
            return None
        kept, known = self._weights.loaded, self._weights.once
        same = tuple(once.timesteps) == known.timesteps and torch.equal(once.context, known.context)
        if not same:
            kept = Loaded(kept.network, kept.device)
            self._weights = replace(self._weights, loaded=kept)  # what it was goes before the new
            kept = replace(kept, job=compute())
        return kept, self._weights.size

    def make_way(self, device: torch.device, size: int, cap: int | None) -> None:
        """Forget the weights where ``size`` bytes do not fit on the device beside them: a fresh
        rank would hold those before its weights, not beside them.

        Args:
            cap: bytes that this process may hold there.
        """
        if self._weights is None or not size or device.type != "cuda":
            return
        allocated = torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - allocated
        if cap is not None:
            free = min(free, cap - allocated)
        if free < size + size // 8 + _ROOM:
            self._weights = None
            gc.collect()
            torch.cuda.empty_cache()

    def rest(self) -> int | None:
        """Between jobs: give back all that is not kept. Bytes that are; None: nothing is."""
        if self._weights is None or self._probe is None:
            return None
        gc.collect()  # what refers to itself holds rings
        self._probe.trim()
        return self._probe.level() + self._probe.slack() + (self._probe.context or 0)
