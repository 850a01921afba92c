"""Does a job that was killed go on to the same bytes, under its own plan and under others?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from engine.placement.cut import RING_BLOCKS
from engine.placement.onrank.state import Keeper
from engine.placement.statefile import EMPTY, StateFile
from engine.ranks.protocol import RankSpec, StateSpec
from tests.forks import forks
from tests.ranks.job_harness import RankReports
from tests.ranks.resume_harness import _rank, go_on, kept_cut, kill_at, specs

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("ranks")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("resume")
    (made / "mirror").mkdir()
    return made


@pytest.fixture(scope="module")
def whole(folder: Path) -> RankReports:
    """The job, undisturbed."""
    return go_on(folder, "single", None)


@pytest.fixture
def fresh(folder: Path, whole: RankReports) -> Path:
    """The folder of a job that has not begun."""
    for name in ("mirror", "segments"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return folder


@pytest.mark.parametrize(
    ("name", "step", "block", "then"),
    [
        ("single", 1, 3, "single"),
        ("offload", 3, 2, "offload"),
        ("tpp", 1, 4, "tpp"),  # its first rank: the others are behind it
        ("tpp", 3, 1, "ring"),
        ("fsdp", 3, 3, "fsdp"),
        ("ring", 2, 4, "balanced"),
    ],
)
def test_a_killed_rank_s_job_goes_on_to_the_same_latents(
    fresh: Path, whole: RankReports, name: str, step: int, block: int, then: str
) -> None:
    kill_at(fresh, name, step, block)
    cut = kept_cut(fresh)
    assert cut is not None
    assert cut.blocks[step] >= block  # at most the block in work is made again
    resumed = go_on(fresh, then, cut)
    assert resumed.result["latents_sha256"] == whole.result["latents_sha256"]
    assert [c["sha256"] for c in resumed.of("clip")] == [c["sha256"] for c in whole.of("clip")]


def _gently(spec: RankSpec) -> None:
    """A rank that fails where it writes a latent again that is kept."""
    keep = Keeper.keep_latent

    def keep_new(keeper: Keeper, step: int, block: int, latent: torch.Tensor) -> None:
        assert not keeper.holds_latent(step, block), f"block {block} at step {step} is kept"
        keep(keeper, step, block, latent)

    Keeper.keep_latent = keep_new  # type: ignore[method-assign]
    _rank(spec, None)


def test_a_latent_that_others_may_be_reading_is_not_written_again(fresh: Path) -> None:
    kill_at(fresh, "single", 1, 4)
    cut = kept_cut(fresh)
    assert cut is not None
    mirror = str(fresh / "mirror")
    (spec,) = specs(fresh, "single", StateSpec(folder=mirror, source=mirror, cut=cut.blocks))
    rank = forks().Process(target=_gently, args=(spec,), daemon=True)
    rank.start()
    rank.join(100)
    assert rank.exitcode == 0


def _copied_at_its_end(spec: RankSpec) -> None:
    """A rank whose files are held from block 2 until in the midst of the last one."""
    done = Keeper.done

    def held(keeper: Keeper, step: int, block: int, latent: torch.Tensor | None) -> None:
        if (step, block) == (0, 2):
            keeper.hold(True)
        done(keeper, step, block, latent)
        if (step, block) == (1, 5):
            keeper.hold(False)

    Keeper.done = held  # type: ignore[method-assign]
    _rank(spec, None)


def test_what_was_computed_while_files_were_held_is_kept_though_no_block_follows(
    fresh: Path,
) -> None:
    (spec,) = specs(fresh, "single", StateSpec(folder=str(fresh / "mirror")))
    (fresh / "mirror").mkdir()
    rank = forks().Process(target=_copied_at_its_end, args=(spec,), daemon=True)
    rank.start()
    rank.join(100)
    assert rank.exitcode == 0
    cut = kept_cut(fresh)
    assert cut is not None
    assert cut.blocks == (6, 6, 6, 6)


def test_committed_clips_are_not_made_again_and_later_ones_are_the_same(
    fresh: Path, whole: RankReports
) -> None:
    kill_at(fresh, "single", 3, 5)
    resumed = go_on(fresh, "single", kept_cut(fresh), committed=1)
    assert [c["clip"] for c in resumed.of("clip")] == [1, 2]
    assert [c["sha256"] for c in resumed.of("clip")] == [c["sha256"] for c in whole.of("clip")][1:]
    assert resumed.result["latents_sha256"] == whole.result["latents_sha256"]
    # Without the decoder's memory it is built again, and comes out the same.
    shutil.rmtree(fresh / "mirror")
    (fresh / "mirror").mkdir()
    replayed = go_on(fresh, "single", None, committed=1)
    assert [c["sha256"] for c in replayed.of("clip")] == [c["sha256"] for c in whole.of("clip")][1:]
    assert replayed.result["latents_sha256"] == whole.result["latents_sha256"]


def test_a_torn_block_costs_one_block_and_changes_nothing(fresh: Path, whole: RankReports) -> None:
    kill_at(fresh, "single", 0, 4)
    before = kept_cut(fresh)
    assert before is not None
    newest = before.blocks[0] - 1
    for path in (fresh / "mirror").glob("kv.step0.*"):
        with StateFile.open(path, writable=True) as file:
            assert file.slots == RING_BLOCKS + 1
            slot = newest % file.slots
            for name in file.entries:
                if name != "tags":
                    file.write(name, slot, memoryview(b"\xff" * file.place(name, slot)[1]))
            file.tag(slot, EMPTY)
    after = kept_cut(fresh)
    assert after is not None
    assert after.blocks[0] == newest
    # What another rank is just making is none of the state, and may be gone a moment later.
    (fresh / "mirror" / "kv.step0.layers0-1.slots6.safetensors.new").write_bytes(
        b"half of a header"
    )
    assert go_on(fresh, "single", after).result["latents_sha256"] == whole.result["latents_sha256"]
