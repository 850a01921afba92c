"""LoRA beside the linear layers that one may change."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.model.dit import DiT

_ENDS = (".q", ".k", ".v", ".o", ".ffn.0", ".ffn.2")


class Adapter(nn.Module):
    """A linear layer with a low-rank change."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.a = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))

    @property
    def bias(self) -> Tensor:
        return self.linear.bias

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x) + F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))
        return out


def adapt(dit: DiT, rank: int) -> dict[str, Adapter]:
    """Put one beside every layer that ``expected.LORA_TARGETS`` names; by module path."""
    made: dict[str, Adapter] = {}
    for name, module in list(dit.named_modules()):
        inside = name.startswith(("blocks.", "audio_injector.injector."))
        if isinstance(module, nn.Linear) and inside and name.endswith(_ENDS):
            parent, _, leaf = name.rpartition(".")
            made[name] = Adapter(module, rank)
            setattr(dit.get_submodule(parent), leaf, made[name])
    return made


def pairs(adapters: dict[str, Adapter]) -> dict[str, Tensor]:
    """The tensors of a LoRA file."""
    found = {}
    for path, adapter in adapters.items():
        found[f"{path}.lora_A.default.weight"] = adapter.a.detach().bfloat16().contiguous()
        found[f"{path}.lora_B.default.weight"] = adapter.b.detach().bfloat16().contiguous()
    return found


def restore(adapters: dict[str, Adapter], tensors: dict[str, Tensor]) -> None:
    """Take over what ``pairs`` gave."""
    for path, adapter in adapters.items():
        adapter.a.data.copy_(tensors[f"{path}.lora_A.default.weight"])
        adapter.b.data.copy_(tensors[f"{path}.lora_B.default.weight"])
