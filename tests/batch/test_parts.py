"""Pairs, prompts, sizes, keys, lines and comparisons: does each part say what it should?"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.batch import report
from engine.batch.freeze import whole_request
from engine.batch.keys import checkpoint_identity, item_key
from engine.batch.lines import NoLine, Trial, choose_lines, makespan
from engine.batch.pairs import Pair, PairError, pair_up
from engine.batch.rows import BatchRow, ItemRow
from engine.batch.sizes import DEFAULT_TABLE, SizeTableError, parse_sizes
from engine.batch.spec import SpecError, spec_from_dict
from engine.batch.store import LEASE_SECONDS, BatchStore, LostClaim
from engine.jobs.identity import ProcessIdentity
from engine.jobs.store import JobStore
from engine.params import Request
from engine.resources import sample_data
from tests.batch.bench import spec_of

GPUS = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")
EIGHT = [("64*64", 10)] * 8


@pytest.mark.parametrize(
    ("seconds", "size"),
    [(0.5, "384*256"), (29.99, "384*256"), (30, "688*368"), (119.9, "688*368"), (120, "704*384")],
)
def test_B5_the_size_follows_the_sound_s_length(seconds: float, size: str) -> None:
    assert parse_sizes(DEFAULT_TABLE).size(seconds) == size
    spec = spec_from_dict(spec_of(Path("/x"), sizes=DEFAULT_TABLE))
    pair = Pair("a", Path("/x/a.wav"), Path("/x/a.png"))
    request = whole_request(spec, pair, seconds)
    assert request["size"] == size
    assert request["num_clip"] >= seconds * 25 / 48  # as long as the sound
    own = dataclasses.replace(pair, changes={"size": "512*512", "num_clip": "3"})
    request = whole_request(spec, own, seconds)
    assert (request["size"], request["num_clip"]) == ("512*512", 3)


@pytest.mark.parametrize(
    "table", ["", "30=384*256", "30=x,else=1*1", "30=64*64,20=64*64,else=64*64"]
)
def test_B5_a_table_that_says_nothing_clear_is_refused(table: str) -> None:
    with pytest.raises(SizeTableError, match="else="):
        parse_sizes(table)


def test_B3_prompts_come_from_beside_the_files_or_from_a_table(tmp_path: Path) -> None:
    for name in ("one", "two", "drei", "four"):
        (tmp_path / f"{name}.wav").touch()
        (tmp_path / f"{name}.png").touch()
    (tmp_path / "one.txt").write_text("\ufeffbeside it\n", encoding="utf-8")
    (tmp_path / "drei.txt").write_text("一位女士在办公室微笑", encoding="utf-8")
    (tmp_path / "gone.txt").write_text("nobody's")
    table = tmp_path / "items.csv"
    table.write_text('name,prompt,base_seed\ntwo,"a, b",7\ndrei,,8\nfive,x,\n', encoding="utf-8")
    found = pair_up(tmp_path, tmp_path, table)
    assert {pair.name: dict(pair.changes) for pair in found.pairs} == {
        "one": {"prompt": "beside it"},
        "two": {"prompt": "a, b", "base_seed": "7"},
        "drei": {"prompt": "一位女士在办公室微笑", "base_seed": "8"},
        "four": {},
    }
    kinds = {(r.kind, r.name) for r in found.remarks}
    assert kinds == {("unsupported", "items.csv"), ("prompt", "gone"), ("manifest", "five")}
    for text in ("prompt\nx\n", "name,wings\na,2\n", "name,prompt\na,b,c\n"):
        table.write_text(text)
        with pytest.raises(PairError, match=r"items\.csv"):
            pair_up(tmp_path, tmp_path, table)


def test_B1_a_key_is_what_is_seen_and_nothing_else(tmp_path: Path) -> None:
    request = Request(ckpt_dir="/x", image="/x/a.png", audio="/x/a.wav").to_dict()
    key = item_key("a", "b", "w", request)
    same: dict[str, Any] = {"gpus": "0", "mode": "fsdp", "num_gpus_dit": 2, "output": "/y.mp4"}
    for name, value in {**same, "image": "/z.png", "ckpt_dir": "/z", "retries": 9}.items():
        assert item_key("a", "b", "w", {**request, name: value}) == key, name
    for name, value in {"prompt": "other", "base_seed": 1, "size": "64*64", "fp8": True}.items():
        assert item_key("a", "b", "w", {**request, name: value}) != key, name
    assert item_key("A", "b", "w", request) != key != item_key("a", "b", "W", request)

    folder = tmp_path / "ckpt"
    folder.mkdir()
    for path in (sample_data() / "ckpt").iterdir():
        (folder / path.name).symlink_to(path)
    before = checkpoint_identity({"ckpt_dir": str(folder)})
    config = folder / "config.json"
    text = config.read_text()
    config.unlink()
    config.write_text(text)
    assert checkpoint_identity({"ckpt_dir": str(folder)}) == before  # by its bytes
    weights = max(folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    data = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(data)
    os.utime(weights, (1, 1))
    assert checkpoint_identity({"ckpt_dir": str(folder)}) != before  # by its time


def _plan(
    single: float | None = None, pipeline: float | None = None, small: frozenset[str] = frozenset()
) -> Any:
    def plan(changes: Mapping[str, Any]) -> Trial:
        gpus = str(changes.get("gpus", "")).split(",")
        if changes.get("mode") == "single":
            if gpus[0] in small:
                return Trial(False, f"{gpus[0]} is too small")
            return Trial(True, "", "single", 1, {"64*64": single} if single else {})
        return Trial(True, "", "tpp", len(gpus), {"64*64": pipeline} if pipeline else {})

    return plan


def test_B5_lines_or_a_pipeline_by_what_the_whole_batch_takes() -> None:
    assert makespan(EIGHT, 4, {"64*64": 2.0}) == 40.0
    assert makespan(EIGHT, 4, {"32*32": 2.0}) is None
    faster = choose_lines("auto", GPUS, EIGHT, _plan(single=2.0, pipeline=0.7))
    assert (faster.kind, len(faster.lines)) == ("independent", 4)
    assert faster.predicted == {"independent": 40.0, "pipeline": pytest.approx(56.0)}
    assert "40 s over 4 lines, 56 s in one pipeline" in faster.why
    slower = choose_lines("auto", GPUS, EIGHT, _plan(single=3.0, pipeline=0.7))
    assert (slower.kind, slower.lines[0].changes["num_gpus_dit"]) == ("pipeline", 4)


def test_B5_without_measured_times_a_rule_decides_and_says_so() -> None:
    many = choose_lines("auto", GPUS, EIGHT, _plan(single=2.0))
    assert (many.kind, len(many.lines)) == ("independent", 4)
    assert "not all was measured" in many.why
    few = choose_lines("auto", GPUS, EIGHT[:2], _plan())
    assert (few.kind, "idle" in few.why) == ("pipeline", True)
    half = choose_lines("auto", GPUS, EIGHT, _plan(small=frozenset(GPUS[:2])))
    assert (half.kind, "only 2 of 4" in half.why) == ("pipeline", True)
    three = choose_lines("auto", GPUS, EIGHT, _plan(small=frozenset(GPUS[:1])))
    assert [line.devices for line in three.lines] == [(gpu,) for gpu in GPUS[1:]]
    none = choose_lines("auto", GPUS, EIGHT, _plan(small=frozenset(GPUS)))
    assert (none.kind, "is too small" in none.why) == ("pipeline", True)
    with pytest.raises(NoLine, match="too small"):
        choose_lines("auto", GPUS[:1], EIGHT, _plan(small=frozenset(GPUS)))


def test_B5_what_is_asked_for_is_done() -> None:
    two = choose_lines("2", GPUS, EIGHT, _plan())
    assert [line.devices for line in two.lines] == [GPUS[:2], GPUS[2:]]
    assert two.lines[1].changes == {"gpus": "GPU-c,GPU-d", "mode": "tpp", "num_gpus_dit": 2}
    one = choose_lines("pipeline", GPUS, EIGHT, _plan())
    assert (one.kind, one.lines[0].devices) == ("pipeline", GPUS)
    cpu = choose_lines("4", (), EIGHT, lambda _: Trial(True))
    assert (cpu.kind, len(cpu.lines), "--lines 4 is for GPUs" in cpu.why) == ("cpu", 1, True)


def test_B1_a_request_of_two_ranks_gets_lines_of_two() -> None:
    def plan(changes: Mapping[str, Any]) -> Trial:
        return Trial(True, "", "fsdp", 2)

    found = choose_lines("auto", GPUS, EIGHT, plan, fixed=True)
    assert [line.devices for line in found.lines] == [GPUS[:2], GPUS[2:]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"out_dir": ""}, "out_dir is missing"),
        ({"lines": "0"}, "--lines 0"),
        ({"retries": -1}, "retries -1"),
        ({"halt_share": 0}, "halt_share"),
        ({"item_timeout": "soon"}, "item_timeout"),
        ({"wings": 2}, "wings"),
        ({"request": {"image": "/x.png"}}, "--image"),
        ({"sizes": "30"}, "resolution table"),
    ],
)
def test_B5_a_wish_that_cannot_be_is_refused_with_its_name(change: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        spec_from_dict({**spec_of(Path("/x")), **change, "request": {
            **spec_of(Path("/x"))["request"], **change.get("request", {})}})  # fmt: skip


def test_B5_two_reports_stand_side_by_side() -> None:
    def body(seconds: float, peak: int | None) -> dict[str, Any]:
        item = {"name": "a", "seconds": seconds}
        totals = {"items": 1, "done": 1, "seconds_per_item": seconds, "peak_bytes": peak}
        return {"format": 1, "totals": totals, "items": [item]}

    rows = {r["what"]: r for r in report.compare(body(12.0, None), body(10.0, 5))}
    assert rows["seconds_per_item"]["change"] == pytest.approx(0.2)
    assert rows["seconds of a"]["earlier"] == 10.0
    assert rows["peak_bytes"]["change"] is None
    assert rows["fps"] == {"what": "fps", "earlier": None, "now": None, "change": None}


def test_B1_who_lost_its_claim_cannot_end_the_item(tmp_path: Path) -> None:
    jobs = JobStore(tmp_path / "jobs.sqlite3")
    slow = BatchStore(jobs)
    other = BatchStore(jobs, ProcessIdentity(1, 1, "another boot"))
    row = BatchRow("b", "b", "running", {}, "d", 0.0)
    slow.create(row, [ItemRow("b", "k", 0, "a", "a.wav", "a.png", {})], [])
    claim = slow.claim("b", "k", "t-{fence}", "cpu", now=100.0)
    assert claim is not None
    assert (claim.attempts, claim.fence, claim.temporary) == (1, 1, "t-1")
    assert slow.claim("b", "k", "t", "cpu") is None  # it is taken
    assert slow.stale("b", now=100.0 + LEASE_SECONDS - 1) == ()
    slow.renew("b", now=150.0)
    assert slow.stale("b", now=150.0 + LEASE_SECONDS - 1) == ()
    (late,) = slow.stale("b", now=150.0 + LEASE_SECONDS + 1)  # it stands still, and is taken over
    assert other.crashed(late).state == "waiting"
    again = other.claim("b", "k", "t-{fence}", "cpu")
    assert again is not None
    assert (again.attempts, again.fence) == (1, 2)  # a dead engine is no try of the item's
    with pytest.raises(LostClaim):
        slow.end(claim, "done", state="done")
    with pytest.raises(LostClaim):
        slow.advance(claim, state="verifying")
    assert other.end(again, "done", state="done").state == "done"
    assert [a.outcome for a in slow.attempts("b")] == ["crashed", "done"]
    jobs.close()
