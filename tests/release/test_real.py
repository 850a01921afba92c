"""Does the whole work with real ranks and the real command line: base weights against a LoRA?"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.guard.ports import reserve
from engine.jobs.manifest import read_manifest
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.ranks.server import RankServer
from engine.release.comm import ENTRY, devices, latencies
from engine.remote.client import attach
from engine.resources import sample_data
from tests.e2e.harness import environment, until
from tests.ranks.helpers import PRELOAD

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("ranks")]

#: One input and two clips: the mechanism is asked about, not the model's pace.
TOML = """
[paired]
inputs = 1
clips = 2
communication_pairs = 1
[validate]
clips = 2
high_seconds = 1
[[stage]]
name = "single"
paired = true
placement = { single_gpu = true }
[[stage]]
name = "all"
share = 1.0
jobs = 1
"""


class Cli:
    """``avatop release …`` over one state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = environment(folder) | {"AVATOP_RELEASES_FILE": str(folder / "releases.toml")}
        (folder / "releases.toml").write_text(TOML)

    def __call__(self, *args: str, code: int = 0) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "console", *args, "--json"],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == code, (args, done.returncode, done.stderr[-2000:])
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        return found

    @property
    def places(self) -> Places:
        return Places(self.folder / "state", self.folder / "cache")


@pytest.mark.timeout(420)
def test_R3_R4_R6_base_against_lora_with_real_ranks(tmp_path: Path) -> None:
    avatop = Cli(tmp_path)
    ckpt = str(sample_data() / "ckpt")
    here = ("--gpus", "cpu", "--mode", "single")
    first = avatop("release", "add", "1.0", "--ckpt_dir", ckpt, *here)
    assert len(first["digest"]) == 64
    avatop("release", "promote", "1.0")
    pencil = str(sample_data() / "lora" / "pencil.safetensors")
    lora = ("--load_lora", "True", "--lora_path_dmd", pencil)
    avatop("release", "add", "1.1", "--ckpt_dir", ckpt, *lora, *here)
    avatop("release", "start", "1.1", code=3)  # not validated
    found = avatop("release", "validate", "1.1")
    said = {row["gate"]: row for row in found["gates"]}
    assert found["state"] == "passed"
    for gate in ("as added", "ready", "clips", "round trip", "high resolution"):
        assert said[gate]["verdict"] == "PASS", said[gate]
    assert "socket" in said["round trip"]["note"]
    assert said["a/a time_per_clip"]["n"] == 1  # one input is too few to arm a gate
    assert not said["a/a time_per_clip"]["armed"]
    avatop("release", "start", "1.1")
    client = attach(avatop.places, kind="verb")
    assert client is not None
    try:
        _wait(avatop, "paused")  # unarmed: a person decides
        status = avatop("release", "status")
        gates = {row["gate"]: row for row in status["rollout"]["gates"]}
        assert status["two_runnable"]
        assert gates["psnr"]["note"].startswith("observed only")
        assert gates["psnr"]["candidate"] < gates["psnr"]["baseline"] == 50.0
        assert gates["peak_memory"]["baseline"] > 0
        assert gates["time_per_clip"]["verdict"] in ("INCONCLUSIVE", "FAIL")
        avatop("release", "advance", "--force")
        image = str(sample_data() / "portraits" / "flat.png")
        audio = str(sample_data() / "speech" / "english.wav")
        job = avatop(
            "submit", "--image", image, "--audio", audio, "--ckpt_dir", ckpt, *here,
            "--size", "64*64", "--num_clip", "1", "--infer_frames", "12",
        )["job"]  # fmt: skip
        row = until(lambda: _ended(avatop, job), 150)
        assert (row.state, row.version) == ("done", "1.1")
        assert row.request["load_lora"] is True
        assert read_manifest(avatop.places.job(job).segments).version == "1.1"
        back = avatop("release", "rollback", "--why", "for the test")
        assert (back["stable"], back["unfinished"]) == ("1.0", [])
        assert back["seconds"] < 30
    finally:
        client.close()
    assert _purposes(avatop) == {"check": 3, "a/a": 4, "pair 1.0": 4, "live": 1}
    assert avatop("release", "status")["stable"] == "1.0"
    shares = avatop("release", "export-weights")
    assert [(v["version"], v["weight"]) for v in shares["versions"]] == [("1.0", 100)]
    assert "upstream avatop" in shares["nginx"]
    assert (avatop.places.cache / "releases" / "1.1" / "embeddings").is_dir()


def _purposes(avatop: Cli) -> dict[str, int]:
    """Jobs that a version was given to, by what for."""
    with sqlite3.connect(avatop.places.database) as db:
        found = db.execute("SELECT purpose, COUNT(*) FROM release_jobs GROUP BY purpose")
        return dict(found.fetchall())


def _wait(avatop: Cli, state: str) -> None:
    from engine.release.store import ReleaseStore

    def there() -> bool:
        jobs = JobStore(avatop.places.database)
        try:
            now = ReleaseStore(jobs).rollout()
        finally:
            jobs.close()
        return now is not None and now.state == state

    until(there, 150)


def _ended(avatop: Cli, job: int) -> Any:
    jobs = JobStore(avatop.places.database)
    try:
        row = jobs.get(job)
    finally:
        jobs.close()
    return row if row.ended else None


async def test_R4_hop_and_all_reduce_are_measured_between_real_ranks(tmp_path: Path) -> None:
    assert ENTRY.startswith("engine.placement.onrank.")
    server = RankServer(preload=PRELOAD)
    try:
        found = await latencies(server, devices((), cpu_only=True), {}, str(tmp_path))
    finally:
        await server.close()
    with reserve():  # the port was given back
        pass
    assert set(found) == {
        f"{name} {size}" for name in ("hop", "all_reduce") for size in (4096, 262144, 4194304)
    }
    assert all(0 < seconds < 10 for seconds in found.values())
    assert found["hop 4194304"] > found["hop 4096"]
