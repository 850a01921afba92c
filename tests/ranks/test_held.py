"""Do kept weights give way to what would not fit beside them, and only then?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from engine.placement.onrank.once import Once
from engine.placement.onrank.weights import Loaded
from engine.ranks.onrank.held import Held

GIB = 2**30


@pytest.mark.parametrize(
    ("size", "cap", "kept"),
    [
        (11 * GIB, None, True),  # 110 GiB are free
        (11 * GIB, 30 * GIB, False),  # 28 GiB of weights under a cap of 30
        (100 * GIB, None, False),
        (0, 30 * GIB, True),  # nothing is to be encoded
    ],
)
def test_an_encoder_that_does_not_fit_beside_them_comes_first(
    monkeypatch: pytest.MonkeyPatch, size: int, cap: int | None, kept: bool
) -> None:
    figures: dict[str, Any] = {
        "memory_allocated": 28 * GIB,
        "memory_reserved": 29 * GIB,
        "mem_get_info": (109 * GIB, 141 * GIB),
        "empty_cache": None,
    }
    for name, value in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    network: Any = nn.Linear(2, 2)
    device = torch.device("cuda:0")
    once, other = Once(torch.ones(2), (1.0,)), Once(torch.ones(2), (1.0, 2.0))
    held, never = Held(), pytest.fail
    held.keep("name", Loaded(network, device), 24, None, once)
    held.make_way(device, size, cap)
    found = held.loaded(once, lambda: never("nothing has to be computed"))
    assert (found is not None) is kept
    if kept:
        new: Any = object()
        again = held.loaded(other, lambda: new)
        assert again is not None
        assert (again[0].network, again[0].job, again[1]) == (network, new, 24)
    held.expect("another name")
    assert held.loaded(once, lambda: never("")) is None
