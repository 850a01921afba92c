"""Where can a job go on, whatever instruction its ranks were killed at?"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from safetensors import safe_open

from engine.placement.cut import Cut, Kept, find_cut, latents_name, look, needed, rings_name
from engine.placement.statefile import EMPTY, StateFile, StateFileError

STEPS, LAYERS, SLOTS = 2, 3, 5


def rings(folder: Path, step: int, layers: tuple[int, ...] = (0, 1, 2)) -> StateFile:
    return StateFile.create(
        folder / rings_name(step, layers, SLOTS),
        SLOTS,
        {f"{n}.k": ("F32", (2,), 8) for n in layers},
        {"step": str(step), "layers": ",".join(map(str, layers))},
    )


def latents(folder: Path, step: int) -> StateFile:
    path = folder / latents_name(step)
    return StateFile.create(path, 8, {"latent": ("F32", (2,), 8)}, {"step": str(step)})


def hold(file: StateFile, *blocks: int) -> None:
    for block in blocks:
        file.tag(block % file.slots, block)


def cut(folder: Path, logged: int = 0) -> Cut | None:
    kept = look(folder)
    return find_cut(kept, steps=STEPS, layers=LAYERS, per_clip=4, blocks=40, logged=logged)


def test_steps_may_be_at_different_blocks(tmp_path: Path) -> None:
    hold(rings(tmp_path, 0), 5, 6, 7, 8, 9)
    hold(rings(tmp_path, 1), 3, 4, 5, 6, 7)
    hold(latents(tmp_path, 1), 8, 9)
    assert cut(tmp_path, logged=8) == Cut((10, 8))


def test_a_block_torn_while_it_was_written_is_made_again(tmp_path: Path) -> None:
    first, second = rings(tmp_path, 0), rings(tmp_path, 1)
    hold(first, 5, 6, 7, 8, 9)
    first.tag(10 % SLOTS, EMPTY)  # block 10 takes the place of block 5
    hold(second, 5, 6, 7, 8, 9)
    assert cut(tmp_path, logged=10) == Cut((10, 10))


def test_a_rank_ahead_by_a_block_goes_back_by_one(tmp_path: Path) -> None:
    hold(rings(tmp_path, 0, (0, 1)), 6, 7, 8, 9, 10)
    hold(rings(tmp_path, 0, (2,)), 5, 6, 7, 8, 9)
    hold(rings(tmp_path, 1), 5, 6, 7, 8, 9)
    assert cut(tmp_path, logged=10) == Cut((10, 10))


def test_a_latent_that_was_not_kept_is_made_again(tmp_path: Path) -> None:
    hold(rings(tmp_path, 0), 5, 6, 7, 8, 9)
    hold(rings(tmp_path, 1), 4, 5, 6, 7, 8)
    assert cut(tmp_path, logged=9) == Cut((9, 9))


def test_finals_come_from_the_log_or_from_the_ranks(tmp_path: Path) -> None:
    for step in range(STEPS):
        hold(rings(tmp_path, step), 5, 6, 7, 8, 9)
    assert cut(tmp_path, logged=8) == Cut((8, 8))
    hold(latents(tmp_path, STEPS), 8, 9)
    assert cut(tmp_path, logged=8) == Cut((10, 10))


def test_nothing_kept_is_no_cut(tmp_path: Path) -> None:
    assert cut(tmp_path) is None
    assert find_cut(Kept(), steps=2, layers=3, per_clip=4, blocks=8, logged=8) is None


def test_a_missing_layer_is_no_cut(tmp_path: Path) -> None:
    hold(rings(tmp_path, 0, (0, 1)), 5, 6, 7, 8, 9)
    hold(rings(tmp_path, 1), 5, 6, 7, 8, 9)
    assert cut(tmp_path, logged=10) is None


@pytest.mark.parametrize("damage", ["cut short", "no header", "another file"])
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path: Path, damage: str) -> None:
    for step in range(STEPS):
        hold(rings(tmp_path, step), 5, 6, 7, 8, 9)
    path = tmp_path / rings_name(0, (0, 1, 2), SLOTS)
    if damage == "cut short":
        os.truncate(path, path.stat().st_size - 1)
    elif damage == "no header":
        with path.open("r+b") as stream:
            stream.write(b"\xff" * 64)
    else:
        path.write_text("not a state file")
    with pytest.raises(StateFileError):
        StateFile.open(path)
    assert cut(tmp_path, logged=10) is None


def test_what_a_step_needs_begins_with_the_video() -> None:
    assert list(needed(2)) == [0, 1]
    assert list(needed(9)) == [6, 7, 8]


def test_a_file_of_the_same_layout_is_gone_on_with(tmp_path: Path) -> None:
    hold(rings(tmp_path, 0), 5)
    assert rings(tmp_path, 0).holds(5)
    assert not rings(tmp_path, 0, (0, 1)).holds(5)


def test_others_can_read_it_as_safetensors(tmp_path: Path) -> None:
    file = rings(tmp_path, 1)
    file.write("2.k", 3, memoryview(b"\0\0\x80\x3f\0\0\0\x40"))
    file.tag(3, 8)
    with safe_open(file.path, "numpy") as found:
        assert found.get_tensor("2.k")[3].tolist() == [1.0, 2.0]
        assert found.get_tensor("tags")[3] == 8
