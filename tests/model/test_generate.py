"""Is a video the same in whatever order and on however many ranks it is made?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from engine.model.config import Numerics
from engine.model.dit import DiT
from engine.model.generate import Generation, Options
from tests.model import tiny


def diagonal(net: DiT, ranks: Sequence[Generation]) -> torch.Tensor:
    """Walk (step, tick − step) for all steps in flight; ranks hold contiguous steps.

    A block of clip 1 enters only when block 0 is finished. Ranks hand latents on between ticks.
    """
    first, steps = ranks[0], ranks[0].steps
    queue = [(step, 0) for step in range(steps)]
    final: dict[int, torch.Tensor] = {}
    for _ in range(10 * (first.blocks + steps)):
        handed: list[tuple[int, int, torch.Tensor]] = []
        for rank in ranks:
            for clip in range(min(2, rank.clips)):
                if (
                    rank.epoch_of(clip) == clip
                    and clip not in rank.epochs
                    and rank.needs_prefill(clip)
                    and rank.prefill_ready(clip)
                    and queue[rank.local_steps[0]][1] <= clip * rank.blocks_per_clip
                ):
                    net([rank.prefill(clip)])
            work = []
            for step in rank.local_steps:
                block = queue[step][1]
                entered = step == 0 or queue[step - 1][1] > block
                known = block < rank.blocks and rank.epoch_of(rank.clip_of(block)) in rank.epochs
                if entered and known:
                    work.append((step, block))
            items = [rank.item(*at) for at in work]
            for (step, block), velocity in zip(work, net(items), strict=True):
                assert velocity is not None
                handed.append((step, block, rank.apply(step, block, velocity)))
        for step, block, x in handed:
            queue[step] = (step, block + 1)
            last = step == steps - 1
            if last:
                final[block] = x
            for rank in ranks:
                if (last and block == 0) or step + 1 in rank.local_steps:
                    rank.receive(step + 1, block, x)
        if len(final) == first.blocks:
            return torch.stack([final[b] for b in range(first.blocks)])
    raise AssertionError("the pipeline stands still")


def part(local: Sequence[int], **options: int) -> Generation:
    chosen = Options(**{"clips": 2, "infer_frames": 24, **options})
    given = tiny.inputs(chosen.clips, chosen.infer_frames)
    return Generation(tiny.config(), chosen, given, local_steps=local)


@pytest.mark.parametrize("stages", [[(0, 1, 2, 3)], [(0, 1), (2, 3)], [(0,), (1,), (2,), (3,)]])
@pytest.mark.parametrize("frames", [24, 72])
def test_diagonal_order_gives_bitwise_the_same_latents(
    stages: list[tuple[int, ...]], frames: int
) -> None:
    net = tiny.dit()
    plain = tiny.sequential(net, tiny.generation(infer_frames=frames))
    walked = diagonal(net, [part(local, infer_frames=frames) for local in stages])
    assert torch.isfinite(plain).all()
    assert plain.std() > 0.1
    assert torch.equal(plain, walked)


def test_same_seed_same_video_and_another_seed_another() -> None:
    net = tiny.dit()
    one, two, other = (tiny.sequential(net, tiny.generation(seed=s)) for s in (4, 4, 5))
    assert torch.equal(one, two)
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("frames", [12, 36])
def test_any_number_of_steps_and_frames(steps: int, frames: int) -> None:
    g = tiny.generation(clips=3, steps=steps, infer_frames=frames)
    out = tiny.sequential(tiny.dit(), g)
    assert len(out) == 3 * frames // 12
    assert torch.isfinite(out).all()


def test_bf16_latents_stay_finite() -> None:
    net = tiny.dit(Numerics(compute=torch.bfloat16)).bfloat16()
    options = Options(clips=2, infer_frames=24)
    g = Generation(net.cfg, options, tiny.inputs(2, 24), dtype=torch.bfloat16)
    out = tiny.sequential(net, g)
    assert out.dtype == torch.bfloat16
    assert torch.isfinite(out).all()


def test_the_first_generated_frame_becomes_the_reference() -> None:
    net, g = tiny.dit(), tiny.generation()
    blocks = dict(g.run(net))
    second = tiny.generation()
    second.receive(second.steps, 0, blocks[0])
    assert torch.equal(second.prefill(1).ref, blocks[0][:, :1])


def test_prefills_by_semantics() -> None:
    for semantics, wanted in [("tpp", [0, 1]), ("core", [0, 1]), ("single_offline", [0])]:
        g = tiny.generation(clips=4, semantics=semantics)
        assert [c for c in range(4) if g.needs_prefill(c)] == wanted
    assert not any(part([]).needs_prefill(c) for c in range(2))


def test_the_first_epoch_goes_when_its_last_block_has_passed() -> None:
    net = tiny.dit()
    ranks = [part((0, 1)), part((2, 3))]
    diagonal(net, ranks)
    assert [list(rank.epochs) for rank in ranks] == [[1], [1]]
    one = ranks[0].conditioning_nbytes
    alone = tiny.generation()
    net([alone.prefill(0)])
    assert alone.conditioning_nbytes == one


def test_bytes_of_a_rank_are_those_of_its_steps() -> None:
    whole, half = tiny.generation(), part((0, 1))
    assert whole.kv_nbytes == 2 * half.kv_nbytes
    cfg, tokens = whole.cfg, 12 * 16 + 40
    assert whole.kv_nbytes == 4 * cfg.num_layers * 2 * tokens * cfg.dim * 4


def test_reference_distance_is_fixed_when_asked() -> None:
    drawn = tiny.generation()
    assert len({drawn.relative_dist(s, b) for s in range(4) for b in range(4)}) > 1
    fixed = tiny.generation(relative_dist=30)
    assert {fixed.relative_dist(s, b) for s in range(4) for b in range(4)} == {30}


def test_what_is_not_here_is_refused() -> None:
    g = part((1, 2))
    with pytest.raises(ValueError, match="not on this rank"):
        g.item(0, 0)
    with pytest.raises(ValueError, match="no conditioning"):
        g.item(1, 0)
    tiny.dit()([g.prefill(0)])
    with pytest.raises(ValueError, match="expects block 0"):
        g.item(1, 1)
    with pytest.raises(ValueError, match="not on this rank"):
        g.item(1, 0)
    with pytest.raises(ValueError, match="waits for block 0"):
        g.prefill(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"clips": 0}, "clips"), ({"infer_frames": 80}, "multiple of 12"), ({"steps": 0}, "steps")],
)
def test_impossible_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny.generation(**options)


def test_too_little_audio_is_refused() -> None:
    with pytest.raises(ValueError, match="frames of audio"):
        Generation(tiny.config(), Options(clips=3), tiny.inputs(2))
