"""Does memory hold what was written, say its bytes, and come back as it was?"""

from __future__ import annotations

import pytest
import torch

from engine.model.caches import Conditioning, JobMemory, RollingCache
from engine.model.rope import block_table

HEADS, DIM = 2, 24
KIND = (HEADS, DIM, torch.float32, "cpu")
CPU = torch.device("cpu")


def conditioning(seed: int = 0, layers: int = 2) -> Conditioning:
    cond = Conditioning(layers, 6, 4, *KIND, JobMemory(layers, 3, *KIND))
    drawn = torch.randn(layers, 4, 6, HEADS, DIM, generator=torch.manual_seed(seed))
    for n in range(layers):
        cond.fill(n, drawn[n, 0], drawn[n, 1])
        cond.job.fill(n, drawn[n, 2, :3], drawn[n, 3, :3])
    cond.motion_table = block_table(-1, 1, 1, 2, DIM, CPU, False)
    return cond


def table(time: int) -> torch.Tensor:
    return block_table(time, 1, 2, 2, DIM, CPU, False)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_bytes_are_what_arithmetic_says(dtype: torch.dtype, size: int) -> None:
    ring = RollingCache(3, 48, HEADS, DIM, dtype, "cpu", lead=10)
    assert ring.nbytes == 3 * 2 * (48 + 10) * HEADS * DIM * size
    job = JobMemory(3, 5, HEADS, DIM, dtype, "cpu")
    cond = Conditioning(3, 10, 4, HEADS, DIM, dtype, "cpu", job)
    assert cond.own_nbytes == 3 * 2 * 10 * HEADS * DIM * size
    assert cond.nbytes == cond.own_nbytes + 3 * 2 * 5 * HEADS * DIM * size


def test_a_range_of_layers_holds_those_only() -> None:
    ring = RollingCache(range(2, 4), 8, *KIND)
    assert ring.nbytes == 2 * 2 * 8 * HEADS * DIM * 4
    assert ring.k(3).shape == (8, HEADS, DIM)
    with pytest.raises(KeyError):
        ring.k(0)


def test_slots_go_round() -> None:
    ring = RollingCache(1, 12, *KIND)
    assert [ring.slot(start, 3) for start in range(0, 21, 3)] == [
        (0, 3), (3, 6), (6, 9), (9, 12), (0, 12), (3, 12), (6, 12),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="straddle"):
        ring.slot(10, 3)


def test_attention_sees_one_run_of_memory() -> None:
    ring, cond = RollingCache(2, 12, *KIND, lead=6), conditioning()
    ring.write(0, 0, torch.ones(3, HEADS, DIM), torch.ones(3, HEADS, DIM))
    ring.set_lead(0, cond, 0, table(30))
    k, v = ring.window(0, 3)
    assert k.is_contiguous()
    assert len(k) == len(v) == 9
    assert torch.equal(v[:6], cond.v[0])
    assert torch.equal(k[6:], torch.ones(3, HEADS, DIM))


def test_the_lead_follows_shift_and_epoch() -> None:
    """However often it was updated, the lead equals one written afresh."""
    used = RollingCache(2, 12, *KIND, lead=6)
    first, second = conditioning(1), conditioning(2)
    for cond, shift in [(first, 0), (first, 5), (first, 5), (second, 5), (second, 2), (first, 2)]:
        used.set_lead(1, cond, shift, table(30 + shift))
        fresh = RollingCache(2, 12, *KIND, lead=6)
        fresh.set_lead(1, cond, shift, table(30 + shift))
        for a, b in zip(used.window(1, 0), fresh.window(1, 0), strict=True):
            assert torch.equal(a, b)


def test_a_second_prefill_of_the_same_object_is_seen() -> None:
    ring, cond = RollingCache(2, 12, *KIND, lead=6), conditioning()
    ring.set_lead(0, cond, 0, table(30))
    cond.fill(0, cond.k[0] + 1, cond.v[0] + 1)
    ring.set_lead(0, cond, 0, table(30))
    assert torch.equal(ring.window(0, 0)[1], cond.v[0])


def test_unfilled_or_unfitting_conditioning_is_refused() -> None:
    ring = RollingCache(2, 12, *KIND, lead=6)
    empty = Conditioning(2, 6, 4, *KIND, JobMemory(2, 3, *KIND))
    with pytest.raises(ValueError, match="not prefilled"):
        ring.set_lead(0, empty, 0, table(30))
    with pytest.raises(ValueError, match="cannot hold"):
        RollingCache(2, 12, *KIND, lead=5).set_lead(0, conditioning(), 0, table(30))


def test_snapshot_and_restore() -> None:
    ring, cond = RollingCache(2, 12, *KIND, lead=6), conditioning()
    for n in range(2):
        drawn = torch.randn(2, 12, HEADS, DIM, generator=torch.manual_seed(n))
        ring.write(n, 0, drawn[0], drawn[1])
    mirror = {name: t.clone() for name, t in ring.snapshot().items()}
    text = {name: t.clone() for name, t in cond.snapshot().items()}
    again = RollingCache(2, 12, *KIND, lead=6)
    again.restore(mirror)
    other = Conditioning(2, 6, 4, *KIND, JobMemory(2, 3, *KIND))
    other.restore(text)
    assert other.job.complete
    for n in range(2):
        ring.set_lead(n, cond, 3, table(33))
        again.set_lead(n, other, 3, table(33))
        for a, b in zip(ring.window(n, 12), again.window(n, 12), strict=True):
            assert torch.equal(a, b)
