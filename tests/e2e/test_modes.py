"""Does one job give the same video however it is spread over ranks?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from engine.outcome import read_result
from tests.e2e.harness import PATIENCE, ROOT, Driven, argv, environment, job_flags

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("e2e")]

# The real command, and afterwards a look at what its process has imported.
_WATCHED = """
import sys
from console.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    heavy = [m for m in ("torch", "transformers", "engine.model", "textual") if m in sys.modules]
    print("imported:", heavy, file=sys.stderr)
    raise
"""

_MODES: dict[str, dict[str, str]] = {
    "single": {"mode": "single"},
    "fsdp on 2": {"mode": "fsdp", "num_gpus_dit": "2"},
    "fsdp on 4": {"mode": "fsdp", "num_gpus_dit": "4"},
    "offload": {"mode": "offload", "kv_home": "host"},
    "ring of 2": {"mode": "tpp", "variant": "ring", "num_gpus_dit": "2"},
}


#: The one that is run by the command; the others follow each other in one engine, as jobs do.
_BY_COMMAND = "fsdp on 2"


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, inputs: Path, engine: Driven
) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("modes")
    found = {}
    for name, changes in _MODES.items():
        flags = job_flags(inputs, output=folder / f"{changes['mode']}{len(found)}.mp4", **changes)
        flags["dump_latents"] = str(folder / f"{len(found)}.safetensors")
        found[name] = commanded(flags, folder) if name == _BY_COMMAND else done(flags, engine)
    return found


def done(flags: dict[str, str], engine: Driven) -> dict[str, Any]:
    row = engine.row(engine.submit(flags), "done", "failed", "interrupted")
    assert row.state == "done", row.error
    return read_result(engine.places.job(row.id), row)


def commanded(flags: dict[str, str], folder: Path) -> dict[str, Any]:
    made = subprocess.run(
        [sys.executable, "-c", _WATCHED, "run", "--json", *argv(flags)],
        env=environment(folder),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "imported: []" in made.stderr
    body: dict[str, Any] = json.loads(made.stdout)
    return body


@pytest.mark.timeout(320)
def test_latents_are_bitwise_equal_in_every_mode(results: dict[str, dict[str, Any]]) -> None:
    digests = {name: result["latents_sha256"] for name, result in results.items()}
    assert len(set(digests.values())) == 1, digests
    assert all(len(digest) == 64 for digest in digests.values())


def test_latents_are_finite_and_not_constant(results: dict[str, dict[str, Any]]) -> None:
    import numpy as np
    from safetensors.numpy import load_file

    latents = [load_file(result["latents"])["latents"] for result in results.values()]
    assert np.isfinite(latents[0]).all()
    assert latents[0].std() > 0.01
    assert all(np.array_equal(latents[0], other) for other in latents[1:])


@pytest.mark.parametrize("mode", _MODES)
def test_the_file_plays_with_its_sound(results: dict[str, dict[str, Any]], mode: str) -> None:
    result = results[mode]
    assert result["state"] == "done"
    assert result["frames"] == 48 * 2 - 3
    assert result["fps_video"] == 25
    with av.open(result["output"]) as container:
        frames = sum(1 for _ in container.decode(video=0))
        assert frames == result["frames"]
        assert (container.streams.video[0].width, container.streams.video[0].height) == (64, 64)
    with av.open(result["output"]) as container:
        sound = container.streams.audio[0]
        seconds = sum(f.samples for f in container.decode(sound)) / sound.rate
        assert seconds == pytest.approx(93 / 25, abs=0.1)


def test_each_rank_tells_its_memory_by_owner(results: dict[str, dict[str, Any]]) -> None:
    for name, count in (("single", 1), ("fsdp on 2", 2), ("fsdp on 4", 4)):
        ranks = results[name]["ranks"]
        assert [rank["rank"] for rank in ranks] == list(range(count))
        assert all(rank["peak_bytes"] > 0 for rank in ranks)
        assert all(rank["by_owner"]["weights"] > 0 for rank in ranks)
    whole = results["single"]["ranks"][0]["by_owner"]["weights"]
    quarter = results["fsdp on 4"]["ranks"][0]["by_owner"]["weights"]
    assert quarter < whole / 3


def test_every_gather_of_weights_is_counted(results: dict[str, dict[str, Any]]) -> None:
    assert results["single"]["unshard"] == {"events": 0, "max_bytes": 0}
    two, four = results["fsdp on 2"], results["fsdp on 4"]
    assert two["unshard"]["events"] % 2 == 0
    assert two["unshard"]["events"] > 0
    assert four["unshard"]["events"] == 2 * two["unshard"]["events"]
    for result in (two, four):
        assert result["unshard"]["max_bytes"] == result["plan"]["unshard"]["max_unit_bytes"]


def test_the_result_has_the_contract_s_fields(results: dict[str, dict[str, Any]]) -> None:
    fields = {
        *("job", "state", "output", "manifest", "frames", "fps_video", "seconds", "clips"),
        *("latents_sha256", "mode", "ranks", "unshard", "first_frame_seconds"),
        *("av_offset_seconds", "plan"),
    }
    for result in results.values():
        assert fields <= set(result)
        assert [clip["clip"] for clip in result["clips"]] == [0, 1]
        manifest = json.loads(Path(result["manifest"]).read_text())
        assert manifest["status"] == "completed"
        assert sum(clip["frames"] for clip in manifest["clips"]) == result["frames"]
