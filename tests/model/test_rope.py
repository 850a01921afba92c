"""Do positions turn as they should, near and far?"""

from __future__ import annotations

import pytest
import torch

from engine.model import rope

CPU = torch.device("cpu")


def test_channels_split_over_the_axes() -> None:
    assert rope.axis_dims(128) == (44, 42, 42)
    assert rope.axis_dims(28) == (12, 8, 8)


@pytest.mark.parametrize("first", [0, 44_999, 10_000_000])
def test_scores_depend_on_distance_alone_however_long_the_stream(first: int) -> None:
    q, k = torch.randn(2, 3, 1, 24, generator=torch.manual_seed(0)).unbind(0)

    def scores(start: int) -> torch.Tensor:
        turned = rope.block_table(start, 3, 1, 1, 24, CPU, False)
        return torch.einsum("qhd,khd->qk", rope.rotate(q, turned), rope.rotate(k, turned))

    torch.testing.assert_close(scores(first), scores(0), rtol=1e-5, atol=1e-5)


def test_tokens_run_frame_then_row_then_column() -> None:
    whole = rope.block_table(5, 3, 2, 4, 24, CPU, False)
    at = rope.table(*(torch.tensor([p], dtype=torch.float64) for p in (6, 1, 2)), 24)
    assert torch.equal(whole[1 * 8 + 1 * 4 + 2], at[0])


def test_reference_keeps_its_distance_once_the_block_comes_near() -> None:
    assert rope.reference_shift(0, 30) == 0
    assert rope.reference_shift(26, 4) == 0
    assert rope.reference_shift(27, 4) == 1  # at 31, four ahead of 27
    assert rope.reference_shift(12, 30) == 12


def test_half_tables_are_rounded_and_the_default_is_not() -> None:
    exact = rope.block_table(7, 1, 1, 1, 24, CPU, False)
    half = rope.block_table(7, 1, 1, 1, 24, CPU, True)
    assert torch.equal(torch.view_as_real(exact).half().float(), torch.view_as_real(half))
    assert not torch.equal(exact, half)


def test_rotation_keeps_the_dtype() -> None:
    table = rope.block_table(1, 1, 2, 2, 24, CPU, False)
    assert rope.rotate(torch.ones(4, 2, 24, dtype=torch.bfloat16), table).dtype == torch.bfloat16
