"""A recording that was made before a rule was known: is what happened told all the same?"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from console.cli import avatop
from engine.messages import FindingRaised
from engine.nightwatch.derived import derived
from engine.telemetry.recording import open_recording
from engine.telemetry.replay import ReplayClient

SHIPPED = Path(__file__).resolve().parents[2] / "sample_data" / "recordings"
KILLED = SHIPPED / "rank-killed.zip"


def _roots(client: ReplayClient, moment: float) -> set[str]:
    """Causes that stand at a moment of the replay."""
    standing: dict[str, FindingRaised] = {}
    for event in client.ground(moment):
        if isinstance(event, FindingRaised):
            standing[event.id] = event
    return {e.finding for e in standing.values() if e.role == "root" and not e.resolved}


def test_is_the_killed_rank_the_cause_in_the_replay_and_only_after_it_was_killed() -> None:
    recording = open_recording(KILLED)
    (found,) = [s for s in derived(recording) if getattr(s.event, "role", "") == "root"][:1]
    client = ReplayClient(recording, derived)
    assert _roots(client, found.at - 1) == set()
    assert _roots(client, found.at) == {"terminated_by_signal"}


def test_is_it_heard_when_the_cursor_passes_it() -> None:
    recording = open_recording(KILLED)
    at = min(s.at for s in derived(recording))
    client = ReplayClient(recording, derived)
    list(client.ground(at - 2))
    client.seek(at - 2)
    heard: list[object] = []
    client.subscribe(heard.append)
    client.play_to(at + 1)
    assert "terminated_by_signal" in [e.finding for e in heard if isinstance(e, FindingRaised)]


@pytest.mark.parametrize("name", ["tpp-four-gpus.zip", "unshard-oom.zip"])
def test_is_nothing_told_twice(name: str) -> None:
    recording = open_recording(SHIPPED / name)
    own = {(s.event.id, s.event.cause) for s in recording.events()
           if isinstance(s.event, FindingRaised)}  # fmt: skip
    assert own.isdisjoint(
        (s.event.id, s.event.cause) for s in derived(recording)
        if isinstance(s.event, FindingRaised)
    )  # fmt: skip


def test_is_what_it_told_said_in_today_s_words_from_the_moment_it_was_told() -> None:
    recording = open_recording(SHIPPED / "unshard-oom.zip")
    told = [(s.at, s.event) for s in recording.events() if isinstance(s.event, FindingRaised)]
    said = [(s.at, s.event) for s in derived(recording) if isinstance(s.event, FindingRaised)]
    ((at, before),) = [one for one in told if one[1].role == "root"]
    ((now, after),) = [one for one in said if one[1].role == "root"]
    assert (after.id, now, after.t) == (before.id, at, before.t)
    assert "21.74 of 24.00 GiB allowed" in after.cause
    assert "shard_on_load" not in [remedy.id for remedy in after.remedies]
    stood = ReplayClient(recording, derived).ground(recording.end)
    assert [e for e in stood if isinstance(e, FindingRaised)][-1].cause == after.cause


def test_does_triage_read_a_recording_as_it_reads_a_log() -> None:
    said = CliRunner().invoke(avatop, ["triage", str(KILLED)])
    assert said.exit_code == 0
    assert said.output.startswith("root   terminated_by_signal")
    assert "victim peer_rank_died" in said.output
