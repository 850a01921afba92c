"""Does a recording of a real job show at a moment what a console knew at that moment?"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from console.cli import avatop
from console.state import Model
from engine.engine import Engine
from engine.jobs.paths import Places
from engine.messages import Event, JobChanged, LedgerUpdated, LogLine
from engine.telemetry.recording import open_recording
from tests.bad_inputs import make_files
from tests.console.test_replay import assert_same, shown
from tests.e2e.harness import PROMPT, Driven, job_flags

pytestmark = [pytest.mark.ranks, pytest.mark.xdist_group("e2e")]


class Recorded(NamedTuple):
    state: Path
    folder: Path
    told: list[Event]
    job: int


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """One job on two CPU ranks, in an engine that records as it always does."""
    folder = tmp_path_factory.mktemp("recorded")
    make_files(folder)
    places = Places(folder / "state", folder / "cache")
    engine = Engine(places, "0.0.test")
    told: list[Event] = []
    engine.bus.subscribe(told.append)
    client = engine.start()
    try:
        driven = Driven(client)
        job = driven.submit(job_flags(folder, mode="fsdp", num_clip=1))
        assert driven.row(job, "done", "failed", "interrupted").state == "done"
    finally:
        client.close()
    return Recorded(places.state, places.recordings, told, job)


async def test_plots_and_jobs_of_a_real_job_are_those_of_the_moment(recorded: Recorded) -> None:
    recording = open_recording(recorded.folder)
    events = list(recording.events())
    assert [type(s.event) for s in events] == [type(e) for e in recorded.told]
    assert recording.jobs == [recorded.job]
    ledgers = [s.at for s in events if isinstance(s.event, LedgerUpdated)]
    async with shown(recording) as replay:
        for moment in (recording.end, ledgers[len(ledgers) // 2], ledgers[0], ledgers[-1]):
            replay.app.go_to(moment)
            await replay.settle()
            live = Model()
            for event in recorded.told[: sum(s.at <= moment for s in events)]:
                live.apply(event)
            live.now = moment
            live.book.preview = replay.app.model.preview  # frames are kept once a second
            assert_same(replay.app.model, live)
        assert "RECORDING" in replay.text()
        assert "rank 1" in replay.text()


def test_its_bundle_explains_it_without_saying_who(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(recorded.state))
    monkeypatch.setenv("NCCL_AUTH_TOKEN", "do-not-tell-this")
    path = tmp_path / "incident.zip"
    done = CliRunner().invoke(avatop, ["export", "-o", str(path), "--json"])
    assert done.exit_code == 0, done.output
    body = json.loads(done.stdout)
    assert body["jobs"] == [recorded.job]
    assert body["redacted"]["prompt"] >= 1
    with zipfile.ZipFile(path) as bundle:
        parts = {name: bundle.read(name) for name in bundle.namelist()}
    assert {
        "manifest.json", "system.json", "memory.csv", "logs/recorded.log", "logs/engine.log",
        f"plans/job-{recorded.job}.json", f"jobs/job-{recorded.job}.json",
        f"checkpoint/job-{recorded.job}.json",
    } <= set(parts)  # fmt: skip
    system = json.loads(parts["system.json"])
    assert system["packages"]["textual"]
    assert system["environment"]["NCCL_AUTH_TOKEN"] == "<secret>"
    everything = b"".join(data for name, data in parts.items() if not name.endswith(".gz"))
    again = open_recording(path)
    told = "".join(s.event.to_json() for s in again.ground()).encode()
    for secret in (PROMPT, "do-not-tell-this", str(Path.home()) + "/"):
        assert secret.encode() not in everything + told
    rows = [s.event.job for s in again.ground() if isinstance(s.event, JobChanged)]
    assert rows[-1].state == "done"
    assert again.count == body["events"]
    lines = sum(isinstance(s.event, LogLine) for s in again.events())
    assert len(parts["logs/recorded.log"].splitlines()) == lines


def test_without_a_terminal_replay_prints_what_is_in_it(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(recorded.state))
    body = json.loads(CliRunner().invoke(avatop, ["replay", "--json"]).stdout)
    assert body["jobs"] == [recorded.job]
    assert body["end"] > body["start"]
    assert body["errors"] == 0
    text = CliRunner().invoke(avatop, ["replay", str(recorded.folder)])
    assert text.exit_code == 0
    assert f"jobs: {recorded.job}" in text.output
    kept = json.loads(CliRunner().invoke(avatop, ["recordings", "--json"]).stdout)
    assert kept["bytes"] > 0
    missing = CliRunner().invoke(avatop, ["replay", str(recorded.folder / "none")])
    assert missing.exit_code == 2
