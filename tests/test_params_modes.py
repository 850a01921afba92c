"""Which mode do the reference's flags mean, and which cannot stand together?"""

from __future__ import annotations

from typing import Any

import pytest

from engine.params import ALL_MODES, ModeReading, ParamError, Request, read_mode


def reading(gpus: int | None = None, **values: Any) -> ModeReading:
    return read_mode(Request(**values), gpus, available=ALL_MODES)


@pytest.mark.parametrize(
    ("values", "gpus", "mode", "ranks"),
    [
        ({}, 0, "single", 1),
        ({}, 8, "single", 1),
        ({"single_gpu": True}, 1, "single", 1),
        ({"single_gpu": True, "offload_model": True}, 1, "offload", 1),
        ({"offload_model": True, "num_gpus_dit": 1}, 1, "offload", 1),
        ({"offload_model": False, "num_gpus_dit": 1}, 1, "single", 1),
        ({"num_gpus_dit": 4, "enable_vae_parallel": True}, 5, "tpp", 5),
        ({"num_gpus_dit": 2}, 8, "tpp", 2),
        ({"dit_fsdp": True}, 0, "fsdp", 2),
        ({"dit_fsdp": True, "num_gpus_dit": 4}, 8, "fsdp", 4),
        ({"mode": "fsdp"}, 8, "fsdp", 4),
        ({"mode": "fsdp"}, 2, "fsdp", 2),
        ({"mode": "fsdp", "num_gpus_dit": 3, "enable_vae_parallel": True}, 4, "fsdp", 4),
        ({"mode": "fsdp", "num_gpus_dit": 6}, 0, "fsdp", 6),
        ({"mode": "single", "offload_model": False}, 1, "single", 1),
    ],
)
def test_which_mode_is_meant(values: dict[str, Any], gpus: int, mode: str, ranks: int) -> None:
    got = reading(gpus, **values)
    assert (got.mode, got.num_ranks) == (mode, ranks)


def test_how_is_the_articles_line_for_four_gpus_read() -> None:
    got = reading(4, num_gpus_dit=3, ulysses_size=3, enable_vae_parallel=True)
    assert (got.mode, got.dit_ranks, got.own_vae_rank, got.num_ranks) == ("tpp", 3, True, 4)
    text = " ".join(got.remarks)
    assert "Mode tpp was read from --num_gpus_dit 3" in text
    assert "ulysses_size 3 was read as 1" in text
    assert "40 heads do not divide by 3" in text
    assert "9 GPUs" in text


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"mode": "tpp", "offload_model": True}, ("--mode tpp", "--offload_model True")),
        ({"mode": "single", "offload_model": True}, ("--mode single", "--offload_model True")),
        ({"mode": "offload", "offload_model": False}, ("--mode offload", "--offload_model False")),
        ({"mode": "single", "num_gpus_dit": 2}, ("--mode single", "--num_gpus_dit 2")),
        ({"mode": "fsdp", "num_gpus_dit": 1}, ("--mode fsdp", "--num_gpus_dit 1")),
        ({"mode": "tpp", "dit_fsdp": True}, ("--mode tpp", "--dit_fsdp True")),
        ({"mode": "fsdp", "single_gpu": True}, ("--mode fsdp", "--single_gpu True")),
        ({"single_gpu": True, "num_gpus_dit": 4}, ("--single_gpu True", "--num_gpus_dit 4")),
        ({"single_gpu": True, "dit_fsdp": True}, ("--single_gpu True", "--dit_fsdp True")),
        ({"num_gpus_dit": 2, "offload_model": True}, ("--num_gpus_dit 2", "--offload_model True")),
        ({"dit_fsdp": True, "offload_model": True}, ("--dit_fsdp True", "--offload_model True")),
        (
            {"single_gpu": True, "enable_vae_parallel": True},
            ("--single_gpu True", "--enable_vae_parallel True"),
        ),
    ],
)
def test_does_a_contradiction_name_both_flags(
    values: dict[str, Any], names: tuple[str, str]
) -> None:
    with pytest.raises(ParamError) as caught:
        reading(None, **values)
    assert all(name in str(caught.value) for name in names)


def test_is_a_mode_that_cannot_be_had_refused_with_those_that_can() -> None:
    for values, given in (
        ({"mode": "tpp"}, "--mode tpp"),
        ({"num_gpus_dit": 3}, "--num_gpus_dit 3"),
        ({"offload_model": True}, "--offload_model True"),
    ):
        with pytest.raises(ParamError) as caught:
            read_mode(Request(**values), available=("single", "fsdp"))
        text = str(caught.value)
        assert text.startswith(given)
        assert "single and fsdp" in text
        assert "--mode fsdp" in text


def test_is_a_valid_neighbour_named_for_every_contradiction() -> None:
    for values, neighbour in (
        ({"mode": "single", "num_gpus_dit": 4}, "--mode tpp --num_gpus_dit 4"),
        ({"mode": "offload", "num_gpus_dit": 2}, "--mode fsdp --num_gpus_dit 2"),
        ({"mode": "fsdp", "num_gpus_dit": 1}, "--num_gpus_dit 2"),
        ({"mode": "single", "enable_vae_parallel": True}, "--mode tpp --num_gpus_dit 1"),
        ({"mode": "fsdp", "variant": "ring"}, "--mode tpp --variant ring"),
        ({"dit_fsdp": True, "variant": "ring"}, "--mode tpp --variant ring"),
        ({"num_gpus_dit": 4, "offload_model": True}, "--variant streamed"),
        ({"mode": "auto", "variant": "ring"}, "--mode tpp"),
    ):
        with pytest.raises(ParamError) as caught:
            reading(None, **values)
        assert neighbour in str(caught.value), values


def test_does_auto_take_every_device_and_a_variant_mean_tpp() -> None:
    assert reading(5, mode="auto").mode == "auto"
    assert reading(0, mode="auto").num_ranks == 1
    ring = reading(6, variant="ring")
    assert (ring.mode, ring.dit_ranks) == ("tpp", 6)
    assert any("read from --variant ring" in remark for remark in ring.remarks)


def test_are_more_ranks_than_gpus_refused_with_the_numbers() -> None:
    with pytest.raises(ParamError, match=r"makes 5 ranks.*2 GPUs can be used"):
        reading(2, mode="fsdp", num_gpus_dit=4, enable_vae_parallel=True)
    with pytest.raises(ParamError, match="needs 2 or more GPUs, 1 can be used"):
        reading(1, mode="fsdp")


def test_is_it_told_when_ranks_or_flags_do_nothing() -> None:
    assert any("hold shards only" in r for r in reading(0, mode="fsdp", num_gpus_dit=6).remarks)
    single = reading(1, num_gpus_dit=1, enable_vae_parallel=True)
    assert single.num_ranks == 1
    assert any("enable_vae_parallel has no effect" in r for r in single.remarks)


@pytest.mark.parametrize(
    ("values", "names", "neighbour"),
    [
        ({"mode": "single", "fsdp_wrap": "reference"}, "--fsdp_wrap reference", "--mode fsdp"),
        ({"num_gpus_dit": 4, "prefetch": 2}, "--prefetch 2", "--mode fsdp --prefetch 2"),
        ({"mode": "offload", "prefetch": 1}, "--prefetch 1", "--mode fsdp --prefetch 1"),
        (
            {"mode": "single", "resident_layers": 8},
            "--resident_layers 8",
            "--mode offload --resident_layers 8",
        ),
        (
            {"mode": "tpp", "variant": "ring", "resident_layers": 8},
            "--resident_layers 8",
            "--mode offload --resident_layers 8",
        ),
    ],
)
def test_is_a_flag_of_another_mode_refused_with_that_mode(
    values: dict[str, Any], names: str, neighbour: str
) -> None:
    with pytest.raises(ParamError) as caught:
        reading(None, **values)
    assert names in str(caught.value)
    assert neighbour in str(caught.value)


def test_does_the_references_wrapping_mean_fsdp() -> None:
    got = reading(0, fsdp_wrap="reference")
    assert got.mode == "fsdp"
    assert any("read from --fsdp_wrap reference" in remark for remark in got.remarks)
    streamed = reading(0, mode="tpp", variant="streamed", resident_layers=2)
    assert streamed.mode == "tpp"
