"""Does the network have the checkpoint's shape, and does a walk behave as executors need?"""

from __future__ import annotations

import math

import pytest
import torch

from engine.model.config import DiTConfig, Numerics
from engine.model.dit import BlockItem, DiT, PrefillItem
from engine.model.generate import Generation, Options
from tests.model import tiny

REAL = {
    "dim": 5120,
    "num_heads": 40,
    "num_layers": 40,
    "ffn_dim": 13824,
    "freq_dim": 256,
    "audio_dim": 1024,
    "num_audio_token": 4,
    "audio_inject_layers": [0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39],
    "something_new": {"nested": True},
}


def test_the_real_configuration_gives_the_real_parameters() -> None:
    with torch.device("meta"):
        net = DiT(DiTConfig.from_dict(REAL))
    parameters = dict(net.named_parameters())
    assert len(parameters) == 1260
    assert sum(math.prod(p.shape) for p in parameters.values()) == 16_295_755_609
    assert not any(p.requires_grad for p in parameters.values())
    assert round(sum(p.numel() for p in net.blocks[0].parameters()) / 1e6, 1) == 351.4


def test_the_real_size_gives_the_documented_tokens() -> None:
    cfg = DiTConfig.from_dict(REAL)
    assert (cfg.text_dim, cfg.text_len, cfg.head_dim, cfg.motion_latents) == (4096, 512, 128, 19)
    assert cfg.frame_tokens(48, 88) == 1056
    assert cfg.condition_tokens(48, 88) == 2640


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": None}, "lacks dim"),
        ({"num_heads": 7}, "even heads"),
        ({"audio_inject_layers": [40]}, "reach beyond"),
        ({"adain_mode": "norm"}, "adain_mode"),
        ({"framepack_drop_mode": "drop"}, "framepack_drop_mode"),
    ],
)
def test_an_unknown_network_is_refused(change: dict[str, object], message: str) -> None:
    config = {k: v for k, v in (REAL | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        DiTConfig.from_dict(config)


def test_an_empty_list_walks() -> None:
    """A rank without work still takes part in every layer's gathering."""
    net, called = tiny.dit(), []
    units = [*net.blocks, *net.audio_injector.injector, *net.audio_injector.injector_adain_layers]
    for unit in units:
        unit.register_forward_hook(lambda module, args, out: called.append(module))
    assert net([]) == []
    assert {id(m) for m in called} == {id(m) for m in units}
    assert len(called) == len(units)


def test_each_unit_is_called_once_however_many_items() -> None:
    net, called = tiny.dit(), []
    for unit in [*net.blocks, *net.audio_injector.injector]:
        unit.register_forward_hook(lambda module, args, out: called.append(module))
    g = tiny.generation()
    net([g.prefill(0)])
    assert len(called) == len(net.blocks) + len(net.audio_injector.injector)


def test_items_do_not_disturb_each_other() -> None:
    """One walk with several items is bitwise the walks of each alone."""
    net = tiny.dit()

    def first_items() -> list[BlockItem]:
        videos = [tiny.generation(seed=s) for s in (1, 2)]
        for g in videos:
            net([g.prefill(0)])
        return [g.item(0, 0) for g in videos]

    together = net(first_items())
    alone = [net([item])[0] for item in first_items()]
    for a, b in zip(together, alone, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)


def test_the_parts_of_a_walk_are_the_walk() -> None:
    net = tiny.dit()
    g = tiny.generation()
    net([g.prefill(0)])
    whole = net([g.item(0, 0)])[0]
    states = net.embed([g.item(0, 0)])
    for n in range(net.cfg.num_layers):
        net.run_layer(n, states)
    parts = net.finish(states)[0]
    assert whole is not None
    assert parts is not None
    assert torch.equal(whole, parts)
    assert whole.shape == (16, 3, 8, 8)


def test_bf16_weights_compute_in_float32_and_float32_weights_in_bf16() -> None:
    stored = tiny.dit().bfloat16()
    exact, rounded = tiny.dit(), tiny.dit(Numerics(compute=torch.bfloat16))
    exact.load_state_dict(stored.state_dict())
    rounded.load_state_dict(stored.state_dict())
    outputs = []
    for net in (stored, exact, rounded):
        options = Options(clips=2, infer_frames=24)
        g = Generation(net.cfg, options, tiny.inputs(2, 24), dtype=net.numerics.compute)
        net([g.prefill(0)])
        outputs.append(net([g.item(0, 0)])[0])
    full, same, half = outputs
    assert full is not None
    assert same is not None
    assert half is not None
    assert torch.equal(full, same)
    assert half.dtype == torch.bfloat16
    assert 0 < (half.float() - full).norm() / full.norm() < 0.05


def test_the_prompt_is_embedded_once_a_job() -> None:
    net, seen = tiny.dit(), []
    net.text_embedding.register_forward_hook(lambda *a: seen.append(1))
    tiny.sequential(net, tiny.generation())
    assert len(seen) == 1


def test_audio_is_encoded_once_a_block() -> None:
    net, seen = tiny.dit(), []
    net.casual_audio_encoder.register_forward_hook(lambda *a: seen.append(1))
    g = tiny.generation()
    tiny.sequential(net, g)
    assert len(seen) == g.blocks


def test_wrong_inputs_are_refused() -> None:
    net, g = tiny.dit(), tiny.generation()
    item = g.prefill(0)
    with pytest.raises(ValueError, match="at most 5"):
        net([PrefillItem(item.ref, item.motion, torch.zeros(6, 12), item.cond)])
    with pytest.raises(ValueError, match="conditioning tokens"):
        net(
            [
                PrefillItem(
                    torch.zeros(16, 1, 16, 8), torch.zeros(16, 1, 16, 8), item.context, item.cond
                )
            ]
        )
    with pytest.raises(ValueError, match="do not split"):
        net([PrefillItem(torch.zeros(16, 1, 9, 8), item.motion, item.context, item.cond)])
