"""Do fused operations compute what a layer means, and do facts alone choose who computes?"""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend

from engine.model import accel, fused
from engine.model.attention import backends
from engine.model.config import FP8, FP8_MAX, Numerics
from engine.model.dit import DiT
from engine.model.fp8 import Linear8, Rows8, product, quantise_into, quantise_rows, quantise_weight
from engine.model.generate import Generation, Options
from engine.model.warmup import warm_up
from tests.model import tiny


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def test_a_sum_and_its_norm_are_those_of_the_formula() -> None:
    x, y, gate = drawn(6, 24), drawn(6, 24, seed=1), drawn(24, seed=2)
    weight, bias = drawn(24, seed=3), drawn(24, seed=4)
    total, z = fused.add_norm(
        x, y, gate, fused.Affine(weight, bias, 1e-6, torch.float32), torch.float32
    )
    wanted = x.double() + y.double() * gate.double()
    assert relative(total, wanted) < 1e-6
    normed = (wanted - wanted.mean(1, keepdim=True)) / (
        wanted.var(1, correction=0, keepdim=True) + 1e-6
    ).sqrt()
    assert isinstance(z, Tensor)
    assert relative(z, normed * weight.double() + bias.double()) < 1e-6
    assert torch.equal(fused.add(x, y, gate, torch.bfloat16), total.to(torch.bfloat16))


def test_groups_of_rows_have_a_scale_and_shift_each() -> None:
    x, scale, shift = drawn(6, 24), drawn(3, 24, seed=1), drawn(3, 24, seed=2)
    z = fused.norm(x, fused.Modulated(scale, shift, 1e-5), torch.float32)
    assert isinstance(z, Tensor)
    for group in range(3):
        rows = slice(2 * group, 2 * group + 2)
        alone = fused.norm(
            x[rows], fused.Modulated(scale[group], shift[group], 1e-5), torch.float32
        )
        assert isinstance(alone, Tensor)
        assert torch.equal(z[rows], alone)


def test_sums_stay_in_float32_while_half_types_are_added() -> None:
    x = drawn(4, 24).to(torch.bfloat16)
    how = fused.Modulated(drawn(24), drawn(24), 1e-6)
    gated, z = fused.add_norm(x, x, drawn(24), how, torch.bfloat16)
    assert gated.dtype == torch.float32
    assert isinstance(z, Tensor)
    assert z.dtype == torch.bfloat16


def test_rows_in_fp8_use_the_whole_range_each() -> None:
    x = drawn(5, 48) * torch.tensor([1e-3, 1.0, 50.0, 1e4, 0.0])[:, None]
    rows = quantise_rows(x)
    assert rows.data.dtype == FP8
    largest = rows.data.float().abs().amax(dim=1)
    assert largest[:4].tolist() == [FP8_MAX] * 4
    assert largest[4] == 0
    assert relative(rows.data.float() * rows.scale, x) < 0.04


def test_an_fp8_linear_multiplies_what_it_holds() -> None:
    wide, bias, x = drawn(32, 48, seed=1) * 0.1, drawn(32, seed=2), drawn(7, 48)
    linear = Linear8(48, 32)
    quantise_into(wide, linear.weight, linear.weight_scale)
    linear.bias.copy_(bias)
    rows = quantise_rows(x)
    exact = (rows.data.double() * rows.scale.double()) @ (
        linear.weight.double() * linear.weight_scale.double()[:, None]
    ).T + bias.double()
    assert relative(linear(x), exact) < 1e-6
    assert torch.equal(linear(rows), linear(x))
    assert relative(linear(x), F.linear(x, wide, bias)) < 0.06
    assert linear(x.reshape(7, 1, 48)).shape == (7, 1, 32)


def test_each_row_of_a_weight_is_scaled_by_itself_however_it_is_cut() -> None:
    wide = drawn(1030, 16)
    data, scale = torch.empty(1030, 16, dtype=FP8), torch.empty(1030)
    quantise_into(wide, data, scale)
    whole, scales = quantise_weight(wide)
    assert torch.equal(data.view(torch.uint8), whole.view(torch.uint8))
    assert torch.equal(scale, scales[:, 0])


def test_a_product_keeps_the_dtype_that_its_rows_stand_for() -> None:
    rows = Rows8(*quantise_rows(drawn(3, 16))[:2], torch.bfloat16)
    weight, scale = quantise_weight(drawn(8, 16, seed=1))
    assert product(rows, weight, scale[:, 0], None).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("dtype", "head_dim", "capability", "short", "expected"),
    [
        (torch.bfloat16, 128, (9, 0), False, SDPBackend.CUDNN_ATTENTION),
        (torch.bfloat16, 128, (9, 0), True, SDPBackend.FLASH_ATTENTION),
        (torch.bfloat16, 128, (8, 9), False, SDPBackend.FLASH_ATTENTION),
        (torch.bfloat16, 28, (9, 0), False, SDPBackend.FLASH_ATTENTION),
        (torch.float32, 128, (9, 0), False, SDPBackend.EFFICIENT_ATTENTION),
        (torch.bfloat16, 128, (7, 5), False, SDPBackend.EFFICIENT_ATTENTION),
    ],
)
def test_attention_has_one_backend_for_one_kind_of_hardware(
    dtype: torch.dtype,
    head_dim: int,
    capability: tuple[int, int],
    short: bool,
    expected: SDPBackend,
) -> None:
    assert backends(dtype, head_dim, capability, short)[0] == expected


def test_cpu_ranks_compute_the_plain_definitions() -> None:
    assert accel.kernels_for(drawn(2, 2)) is None
    told: list[str] = []
    warm_up(tiny.config(), Numerics(), None, torch.device("cpu"), lambda name, _: told.append(name))
    assert told == []  # nothing to build, nothing to wait for


@pytest.mark.parametrize(
    ("compiler", "headers", "told"),
    [
        ("/usr/bin/cc", True, None),
        (None, True, "no C compiler"),
        ("/usr/bin/cc", False, "no Python.h"),
    ],
)
def test_what_is_missing_for_kernels_is_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    compiler: str | None,
    headers: bool,
    told: str | None,
) -> None:
    if headers:
        (tmp_path / "Python.h").touch()
    monkeypatch.setitem(sys.modules, "triton", accel)  # anything that can be imported
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: compiler)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    accel.missing.cache_clear()
    try:
        reason = accel.missing()
    finally:
        accel.missing.cache_clear()
    assert reason is None if told is None else told in str(reason)


def test_fp8_changes_a_step_a_little() -> None:
    plain, eight = tiny.dit(), DiT(tiny.config(), Numerics(fp8=True))
    wide = dict(plain.named_parameters())
    linears = {name for name, m in eight.named_modules() if isinstance(m, Linear8)}
    for name, parameter in eight.named_parameters():
        path = name.rpartition(".")[0]
        if path not in linears or name.endswith("bias"):
            parameter.copy_(wide[name])
        elif name.endswith("weight"):
            quantise_into(wide[name], parameter, eight.get_submodule(path).weight_scale)
    first, second = (
        next(
            Generation(tiny.config(), Options(1, steps=1, infer_frames=12), tiny.inputs(1, 12)).run(
                net
            )
        )[1]
        for net in (plain, eight)
    )
    assert 0 < relative(second, first) < 0.1
