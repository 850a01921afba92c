"""The running average of a network's weights, which is better than its last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Follows ``parameters``; young averages forget faster."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float = 0.995) -> None:
        self.parameters = parameters
        self.decay = decay
        self.count = 0
        self.values = [p.detach().clone() for p in parameters]

    def update(self) -> None:
        self.count += 1
        decay = min(self.decay, 1 - 1 / (1 + self.count / 8))
        torch._foreach_lerp_(self.values, self._now(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The average in the network's place, for as long as this lasts."""
        kept = [p.clone() for p in self._now()]
        torch._foreach_copy_(self._now(), self.values)
        yield
        torch._foreach_copy_(self._now(), kept)

    def keep(self) -> None:
        """The average in the network's place."""
        torch._foreach_copy_(self._now(), self.values)

    def _now(self) -> list[Tensor]:
        return [p.detach() for p in self.parameters]
