"""What a release is made of, what is refused, and what a restart finds: through commands."""

from __future__ import annotations

import asyncio
import shutil
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.manifest import ManifestError, ManifestWriter, read_manifest
from engine.release.export import nginx, weights
from engine.release.model import ReleaseError
from engine.release.settings import load, of
from engine.release.snapshot import differences, git_tag
from engine.triage.query import parse as parse_query
from engine.triage.records import parse_line
from tests.release.world import CKPT, Behaviour, World


async def test_R2_a_release_is_its_content_and_never_changes(here: World) -> None:
    await here.add("1.0", parameters={"sample_shift": 3.5})
    await here.add("1.0", parameters={"sample_shift": 3.5})  # the same once more
    assert len(here.service.store.list()) == 1
    other = await here.ask("add", "1.0", model={"ckpt_dir": CKPT})
    assert (other.ok, other.state) == (False, "refused")
    twin = await here.ask("add", "1.0-copy", model={"ckpt_dir": CKPT, "load_lora": False},
                          parameters={"sample_shift": 3.5}, note="x")  # fmt: skip
    assert "version 1.0 already" in twin.message
    names = {Path(f.path).name for f in here.service.store.get("1.0").weights}
    assert {"config.json", "Wan2.1_VAE.pth", "tokenizer.json"} <= names
    await here.add("1.1", lora=True)
    one, two = here.service.store.get("1.0"), here.service.store.get("1.1")
    assert one.numerics != two.numerics
    assert [Path(f.path).name for f in two.lora] == ["liveavatar.safetensors"]


@pytest.mark.parametrize(
    ("version", "options", "says"),
    [
        ("../etc", {}, "no version name"),
        ("stable", {}, "no version name"),
        ("1.0", {"model": {"ckpt_dir": "/nowhere"}}, "/nowhere"),
        ("1.0", {"parameters": {"image": "/x.png"}}, "belongs to a job"),
        ("1.0", {"parameters": {"colour": 1}}, "unknown parameters"),
        ("1.0", {"configuration": ["/nowhere.toml"]}, "/nowhere.toml"),
    ],
)
async def test_R2_what_is_no_release_is_refused_in_words(
    here: World, version: str, options: dict[str, Any], says: str
) -> None:
    reply = await here.ask("add", version, **{"model": {"ckpt_dir": CKPT}, **options})
    assert (reply.ok, reply.state) == (False, "bad_input")
    assert says in reply.message
    assert here.service.store.list() == ()


async def test_R2_weights_that_change_on_disk_stop_the_version(here: World) -> None:
    copy = here.folder / "ckpt"
    shutil.copytree(CKPT, copy)
    await here.two(model={"ckpt_dir": str(copy)})
    assert await here.validated("1.1") == "passed"
    await here.good("start", "1.1")
    await here.until(lambda: here.stage == "half")
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert set(await here.traffic(4)) == {"1.0"}
    assert here.state == "paused"
    assert "changed after the release was added" in here.note
    assert await here.validated("1.1") == "failed"


async def test_R3_R5_slow_to_be_ready_over_the_cap_other_packages_or_a_failed_drill_fail(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.two(memory_cap=1 << 28)
    from engine.release import snapshot

    packages = {"python": "3.11", "packages": {"torch": "2.99"}}
    monkeypatch.setattr(snapshot, "environment", lambda repository=None: packages)
    drills = {"kill-rank": {"recovered": True, "recovery_seconds": 3.0},
              "net": {"error": "this avatop has no fault drills"},
              "cap": {"recovered": True, "lost": ["clip 3"]},
              "link": {"recovered": None, "lost": [], "notes": ["not played: no tc"]}}  # fmt: skip
    await here.good("validate", "1.1", drills=drills)
    await here.until(lambda: not here.service.evidence.validating())
    found = here.service.evidence.validation(here.service.store.get("1.1").digest)
    assert found is not None
    said = {row.gate: row for row in found.gates}
    assert said["as added"].verdict == "FAIL"
    assert "torch absent → 2.99" in said["as added"].note
    assert said["high resolution"].verdict == "FAIL"
    assert said["high resolution"].allowed == 1 << 28
    assert "scaled to this checkpoint's width" in said["high resolution"].note
    assert [said[f"drill {n}"].verdict for n in drills] == ["PASS", "ERROR", "FAIL", "ERROR"]
    assert found.state == "failed"


async def test_R3_a_validation_that_an_engine_s_end_cut_short_is_no_pass(here: World) -> None:
    await here.two()
    await here.good("validate", "1.1")
    await asyncio.sleep(0)
    await here.reopen()
    found = here.service.evidence.validation(here.service.store.get("1.1").digest)
    assert found is not None
    assert (found.state, found.gates[0].verdict) == ("inconclusive", "ERROR")
    assert (await here.ask("start", "1.1")).state == "refused"


async def test_R6_a_rollback_that_was_cut_short_is_finished_by_the_next_engine(
    here: World,
) -> None:
    await here.two()
    await here.good("start", "1.1", force=True)
    await here.good("advance", force=True)
    await here.good("advance", force=True)
    here.client.behaviour["1.1"] = Behaviour(hangs=True)
    await here.traffic(2)
    (hanging,) = here.client.running
    here.service.store.withdraw("ana", "odd", {"running": "requeue"})  # and then the power fails
    running = dict(here.client.running)
    await here.service.close()
    here.jobs.close()
    here.open()
    here.client.running = running
    await here.until(lambda: here.service.store.rollout().follow is None)
    one = here.service.assigner.get(hanging)
    assert one is not None
    assert one.replaced_by is not None
    await here.until(lambda: here.jobs.get(one.replaced_by).state == "done")
    assert here.jobs.get(one.replaced_by).version == "1.0"


async def test_R1_only_one_rollout_at_a_time_and_never_without_a_way_back(here: World) -> None:
    await here.add("1.0")
    assert "no version is stable" in (await here.ask("start", "1.0", force=True)).message
    await here.good("promote", "1.0")
    assert not (await here.ask("promote", "1.0")).ok
    await here.add("1.1", variables={"A": "1"})
    await here.add("1.2", variables={"A": "2"})
    await here.good("start", "1.1", force=True)
    assert "is being rolled out" in (await here.ask("start", "1.2", force=True)).message
    assert "not the candidate" in (await here.ask("promote", "1.2")).message
    await here.good("pause", why="lunch")
    assert here.state == "paused"
    await here.good("resume")
    assert not (await here.ask("dance", "1.1")).ok
    kinds = [entry.kind for entry in here.service.store.history("1.1")]
    assert {"resumed", "paused", "candidate", "added"} <= set(kinds)


async def test_R1_shares_for_a_balancer_outside(here: World) -> None:
    assert "no release is live" in nginx(weights(here.service.store, here.settings))
    await here.two()
    await here.good("start", "1.1", force=True)
    await here.good("advance", force=True)
    await here.good("advance", force=True)
    found = weights(here.service.store, here.settings)
    assert [(v["role"], v["weight"]) for v in found["versions"]] == [
        ("stable", 50),
        ("candidate", 50),
    ]
    assert nginx(found).count("weight=50;") == 2
    await here.good("pause")
    found = weights(here.service.store, here.settings)
    assert [v["weight"] for v in found["versions"]] == [100, 0]


async def test_R8_log_lines_are_found_by_the_version_of_their_job(here: World) -> None:
    await here.two()
    await here.good("start", "1.1", force=True)
    await here.good("advance", force=True)
    await here.good("advance", force=True)
    await here.traffic(4)
    versions = here.service.store.versions()
    query = parse_query("version=1.1")
    lines = [f"[INFO] 2025-12-25 10:30:22 runner.py:1 - job {job}: begins" for job in versions]
    records = [parse_line(line) for line in lines]
    kept = [r.job for r in records if query(parse_line(r.text, version=versions[r.job or 0]))]
    assert len(kept) == 2


def test_R4_settings_ship_and_refuse_what_cannot_be(tmp_path: Path) -> None:
    shipped = tomllib.loads((files("engine.release") / "defaults.toml").read_text())
    found = load(tmp_path / "absent.toml")
    assert [found.allowed[g] for g in ("time_per_clip", "peak_memory", "communication", "psnr")] \
        == [0.10, 0.03, 0.50, 0.02]  # fmt: skip
    assert [stage.name for stage in found.stages] == [
        "single", "multi", "5 %", "25 %", "50 %", "100 %"]  # fmt: skip
    for own, says in (
        ({"gates": {"speed": {}}}, "gates.speed"),
        ({"gates": {"time_per_clip": {"allowed": 0}}}, "allowed"),
        ({"rollback": {"running": "explode"}}, "running"),
        ({"stage": [{"name": "x", "share": 0.5}]}, "last"),
        ({"stage": [{"name": "x", "share": 1.0, "color": 1}]}, "color"),
    ):
        with pytest.raises(ReleaseError, match=says):
            of(shipped, own)
    broken = tmp_path / "releases.toml"
    broken.write_text("gates = [")
    with pytest.raises(ReleaseError, match=r"releases\.toml"):
        load(broken)


def test_R2_what_of_an_environment_differs_is_told(tmp_path: Path) -> None:
    then = {"python": "3.11", "driver": "550", "packages": {"a": "1", "b": "1"}}
    now = {"python": "3.12", "driver": None, "packages": {"b": "2", "c": "1"}}
    assert differences(then, then) == []
    assert differences(then, now) == [
        "python 3.11 → 3.12", "driver 550 → none", "a 1 → absent", "b 1 → 2", "c absent → 1",
    ]  # fmt: skip
    with pytest.raises(ReleaseError, match=str(tmp_path)):
        git_tag(tmp_path)


def test_R7_a_manifest_takes_no_clips_of_a_second_version(tmp_path: Path) -> None:
    request = {"prompt": "x"}
    writer = ManifestWriter(tmp_path, "1.0", request)
    temporary = tmp_path / "clip.part"
    temporary.write_bytes(b"video")
    writer.commit(0, temporary, frames=45, seconds=1.0, fps=45.0, sha256="0" * 64)
    with pytest.raises(ManifestError, match="another request or version"):
        ManifestWriter(tmp_path, "1.1", request)
    kept = read_manifest(tmp_path)
    assert (kept.version, len(kept.clips)) == ("1.0", 1)
    assert {"version", "clips", "status"} <= set(kept.to_dict())
