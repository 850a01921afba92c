"""A training step that a GPU records once and then replays, so that launching it costs nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch

#: Times that a step runs plainly first: libraries choose their algorithms meanwhile.
WARM = 3


class Replay:
    """Calls ``step``, which reads and writes tensors that stay where they are."""

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self.step = step
        self.cuda = device.type == "cuda"
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        self.calls += 1
        if not self.cuda:
            self.step()
        elif self.graph is not None:
            self.graph.replay()
        elif self.calls <= WARM:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self.step()
            torch.cuda.current_stream().wait_stream(side)
        else:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.step()
            self.graph.replay()


def optimizer(
    parameters: list[torch.nn.Parameter], device: torch.device, betas: tuple[float, float]
) -> tuple[torch.optim.AdamW, torch.Tensor]:
    """One that may be recorded, and the tensor that holds its learning rate."""
    rate = torch.zeros((), device=device)
    cuda = device.type == "cuda"
    made = torch.optim.AdamW(
        parameters, rate, betas, weight_decay=1e-4, fused=True, capturable=cuda
    )
    return made, rate
