"""Does a whole job come out right on one rank and on several, and tell what it did?"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from engine.media.check import check_segment
from engine.messages import OWNERS
from tests.ranks.job_harness import RankReports, keep_none, run, specs

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("ranks")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def single(folder: Path) -> RankReports:
    dump = str(folder / "dump" / "latents.safetensors")
    return run(specs(folder, "single", dump_latents=dump))[0]


@pytest.fixture(scope="module")
def sharded(folder: Path, single: RankReports) -> list[RankReports]:
    return run(specs(folder, "fsdp", 2, vae=True), threshold=1)


def test_clips_lie_on_disk_whole_and_as_told(single: RankReports) -> None:
    clips = single.of("clip")
    assert [(clip["clip"], clip["frames"]) for clip in clips] == [(0, 21), (1, 24)]
    for clip in clips:
        path = Path(clip["path"])
        assert hashlib.sha256(path.read_bytes()).hexdigest() == clip["sha256"]
        assert check_segment(path, clip["frames"]).findings == ()
        assert clip["check"] == []


def test_the_result_tells_hash_frames_and_memory(single: RankReports) -> None:
    result = single.result
    assert result["frames"] == 45
    assert [clip["clip"] for clip in result["clips"]] == [0, 1]
    assert result["first_frame_seconds"] > 0
    assert result["unshard"] == {"events": 0, "max_bytes": 0}
    assert set(result["by_owner"]) <= set(OWNERS)
    assert {"weights", "kv", "conditioning", "vae", "context"} <= set(result["by_owner"])
    assert result["peak_bytes"] >= sum(
        result["by_owner"][owner] for owner in ("weights", "kv", "context")
    )


def test_dumped_latents_are_those_of_the_hash(single: RankReports) -> None:
    result = single.result
    latents = load_file(result["dump"])["latents"]
    assert latents.shape == (4, 16, 3, 8, 8)
    assert hashlib.sha256(latents.astype("<f4").tobytes()).hexdigest() == result["latents_sha256"]
    assert latents.std() > 0.1


def test_every_block_has_a_preview_that_fits_the_screen(single: RankReports) -> None:
    blocks = single.of("block")
    assert [(block["clip"], block["block"]) for block in blocks] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    for block in blocks:
        width, height = block["preview_width"], block["preview_height"]
        assert width <= 64
        assert height <= 40
        assert len(base64.b64decode(block["preview_rgb"])) == 3 * width * height


def test_every_block_tells_what_decoding_it_took(
    single: RankReports, sharded: list[RankReports]
) -> None:
    for rank in (single, sharded[2]):
        assert all(0 < block["decode_seconds"] < block["seconds"] for block in rank.of("block"))


def test_every_step_of_every_block_is_told_once(sharded: list[RankReports]) -> None:
    steps = [(s["step"], s["block"]) for rank in sharded for s in rank.of("step")]
    assert sorted(steps) == [(step, block) for step in range(4) for block in range(4)]


def test_sharded_ranks_with_a_vae_of_its_own_give_the_same_video(
    single: RankReports, sharded: list[RankReports]
) -> None:
    first, second, vae = sharded
    assert vae.result["latents_sha256"] == single.result["latents_sha256"]
    assert [c["sha256"] for c in vae.of("clip")] == [c["sha256"] for c in single.of("clip")]
    assert first.result["latents_sha256"] is None
    assert first.result["unshard"]["events"] == second.result["unshard"]["events"] > 0
    assert vae.result["unshard"]["events"] == 0


def test_stages_and_streamed_weights_give_the_same_video(folder: Path, single: RankReports) -> None:
    wanted = [c["sha256"] for c in single.of("clip")]
    first, second, vae = run(specs(folder, "tpp", 2, vae=True))
    assert [c["sha256"] for c in vae.of("clip")] == wanted
    steps = [(s["step"], s["block"]) for rank in (first, second) for s in rank.of("step")]
    assert sorted(steps) == [(step, block) for step in range(4) for block in range(4)]
    ring = run(specs(folder, "tpp", 2, variant="ring"))
    assert [c["sha256"] for c in ring[1].of("clip")] == wanted
    assert ring[0].of("phase")[0]["role"].startswith("step 1-4 of 4, layer 1-")
    assert "layer" in ring[1].of("phase")[0]["role"]
    for rank in ring:  # each tells its layers' part of every step
        told = [(s["step"], s["block"]) for s in rank.of("step")]
        assert sorted(told) == [(step, block) for step in range(4) for block in range(4)]


def test_weights_from_the_host_are_told_apart(folder: Path, single: RankReports) -> None:
    # No layer may stay: with room enough a plan would keep them all.
    streamed = run(keep_none(specs(folder, "offload", kv_home="host")))[0]
    assert streamed.result["latents_sha256"] == single.result["latents_sha256"]
    owners = streamed.result["by_owner"]
    assert "kv" not in owners
    assert 0 < owners["streamed"] + owners["weights"] < single.result["by_owner"]["weights"]


def test_ranks_say_what_they_are(sharded: list[RankReports]) -> None:
    assert [rank.of("phase")[0]["role"] for rank in sharded] == [
        "step 1-2 of 4",
        "step 3-4 of 4",
        "VAE",
    ]


def test_a_low_threshold_flags_spikes_with_their_owner(
    single: RankReports, sharded: list[RankReports]
) -> None:
    assert not single.of("spike"), "the plan's own threshold leaves room for what was planned"
    spikes = sharded[0].of("spike")
    assert spikes
    assert all(spike["peak"] > spike["threshold"] == 1 for spike in spikes)
    assert any(spike["owner"].startswith("gathered: ") for spike in spikes)


def test_encoders_run_once_for_jobs_alike(single: RankReports, sharded: list[RankReports]) -> None:
    phases = [p["phase"] for p in single.of("phase")]
    assert phases.count("encoding") == 2
    assert all("encoding" not in [p["phase"] for p in rank.of("phase")] for rank in sharded)


def test_ledgers_name_known_owners_and_add_up(single: RankReports) -> None:
    for ledger in single.of("ledger"):
        assert set(ledger["by_owner"]) <= set(OWNERS)
        assert ledger["total"] == sum(ledger["by_owner"].values()) <= ledger["peak"]


def test_an_order_to_stop_ends_the_job_after_its_clip(folder: Path) -> None:
    ranks = run(specs(folder, "fsdp", 2, sample_steps=2), stop=True)
    assert [clip["clip"] for clip in ranks[-1].of("clip")] == [0]
    assert ranks[-1].result["frames"] == 21
