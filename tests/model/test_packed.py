"""Do packed rings show attention what was written, and come back as they were stored?"""

from __future__ import annotations

import pytest
import torch

from engine.model.packed import PackedRings, Packing, pack, row_bytes, unpack
from tests.model.test_caches import CPU, DIM, HEADS, conditioning, table

FP32 = torch.float32


def rows_of(x: torch.Tensor, packing: Packing) -> torch.Tensor:
    width = row_bytes(x.shape[-1], x.dtype, packing)
    rows = torch.zeros((*x.shape[:-1], width), dtype=torch.uint8)
    pack(rows, x, packing)
    return rows


@pytest.mark.parametrize("dtype", [torch.bfloat16, FP32])
def test_fp8_rows_are_close_and_packing_again_changes_nothing(dtype: torch.dtype) -> None:
    size = 10.0 ** torch.linspace(-6, 4, 40)[:, None, None]
    x = (torch.randn(40, HEADS, DIM, generator=torch.manual_seed(0)) * size).to(dtype)
    x[3] = 0
    rows = rows_of(x, "fp8")
    assert rows.shape[-1] == DIM + 4
    out = torch.empty_like(x)
    unpack(rows, out, "fp8")
    # Three bits of mantissa; small numbers of a row lose more, measured by the row's largest.
    worst = (out.float() - x.float()).abs().amax(-1)
    assert (worst <= x.float().abs().amax(-1) / 16).all()
    assert torch.isfinite(out).all()
    assert torch.equal(unpacked(rows_of(out, "fp8"), x), out)


def unpacked(rows: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(like)
    unpack(rows, out, "fp8")
    return out


def test_plain_rows_are_exact() -> None:
    x = torch.randn(5, HEADS, DIM)
    rows = rows_of(x, "plain")
    out = torch.empty_like(x)
    unpack(rows, out, "plain")
    assert torch.equal(out, x)


@pytest.mark.parametrize("packing", ["plain", "fp8"])
def test_a_packed_ring_comes_back_bit_by_bit(packing: Packing) -> None:
    rings, cond = PackedRings(CPU, packing), conditioning()
    ring, again = (rings.ring(2, 12, HEADS, DIM, FP32, CPU, lead=6) for _ in range(2))
    for n in range(2):
        drawn = torch.randn(2, 12, HEADS, DIM, generator=torch.manual_seed(n))
        ring.write(n, 0, drawn[0], drawn[1])
    again.restore({name: t.clone() for name, t in ring.snapshot().items()})
    late = torch.randn(2, 3, HEADS, DIM, generator=torch.manual_seed(9))
    seen = []
    for one in (ring, again):
        one.write(1, 3, late[0], late[1])
        one.set_lead(1, cond, 3, table(33))
        seen.append([t.clone() for t in one.window(1, 12)])
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    assert torch.equal(ring.k(0), again.k(0))


def test_a_window_is_shared_by_all_rings_and_counted_once() -> None:
    rings = PackedRings(CPU)
    a, b = (rings.ring(2, 12, HEADS, DIM, FP32, CPU, lead=6) for _ in range(2))
    assert a.nbytes == b.nbytes == 2 * 2 * 12 * HEADS * DIM * 4
    assert rings.nbytes == 2 * 18 * HEADS * DIM * 4
    with pytest.raises(ValueError, match="not in use"):
        a.window(0, 3)


def test_rings_with_a_lead_of_their_own_leave_the_reference_s_keys_alone() -> None:
    """Of an epoch that leads have taken; a later ring copies the rest from the first."""
    from engine.model.caches import Conditioning, JobMemory, RollingCache

    kind = (HEADS, DIM, FP32, "cpu")
    whole = conditioning(1)
    lean = Conditioning(2, 6, 4, *kind, JobMemory(2, 3, *kind), readers={0: 2, 1: 2})
    assert lean.own_nbytes == 0
    lean.motion_table = whole.motion_table
    lean.fill(0, whole.k[0], whole.v[0])
    plain, first, second = (RollingCache(1, 12, *kind, lead=6) for _ in range(3))
    plain.set_lead(0, whole, 2, table(32))
    for ring in (first, second):
        ring.set_lead(0, lean, 2, table(32))
        assert lean.own_nbytes == 4 * HEADS * DIM * 4
        for a, b in zip(ring.window(0, 0), plain.window(0, 0), strict=True):
            assert torch.equal(a, b)
    # The last holder takes another epoch while somebody may still come.
    other = conditioning(2)
    for ring in (first, second):
        ring.set_lead(0, other, 0, table(30))
    late = RollingCache(1, 12, *kind, lead=6)
    late.set_lead(0, lean, 2, table(32))
    for a, b in zip(late.window(0, 0), plain.window(0, 0), strict=True):
        assert torch.equal(a, b)
