"""Are a drill's tools what they say, and does it tell honestly what cannot be done?"""

from __future__ import annotations

import dataclasses
import errno
import subprocess
import sys
from pathlib import Path

import pytest

from engine.drills.checkpoint import flip
from engine.drills.report import DrillReport
from engine.media.findings import MediaError
from engine.ranks.onrank.failure import kind_of
from engine.ranks.protocol import DRILL_CAP, capped
from engine.retry.fault import Fault
from engine.retry.policy import decide
from tests.bad_inputs import voice, write_wav
from tests.drills.test_drills import drill
from tests.e2e.harness import ROOT
from tests.ranks.helpers import specs


@pytest.mark.parametrize(
    ("own", "text", "cap"),
    [(None, "", None), (None, "70", 70), (50, "70", 50), (90, "70", 70), (90, "much", 90)],
)
def test_the_lower_of_two_caps_holds(own: int | None, text: str, cap: int | None) -> None:
    (spec,) = specs(1, Path())
    spec = dataclasses.replace(spec, gpu_memory_cap=own)
    assert capped(spec, {DRILL_CAP: text}).gpu_memory_cap == cap


def test_a_full_disk_is_told_from_other_faults_and_not_tried_again() -> None:
    wrapped = MediaError("cannot write")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert kind_of(wrapped) == "disk"
    assert kind_of(OSError(errno.ENOENT, "no such file")) == "other"
    fault = Fault("rank 1 failed", kind="disk", rank=1)
    found = decide(fault, attempt=1, retries=2, environment={}, nccl=False, resumable=True)
    assert found.action == "none"
    assert "the disk is full" in found.why


HELD = """
import socket
from engine.drills.port import reserved_port
from engine.guard.ports import reserve
with socket.socket() as listening:
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    assert reserved_port() is None
    with reserve() as port:
        assert reserved_port() == port.number
assert reserved_port() is None
"""


def test_only_a_port_that_is_held_without_listening_is_found() -> None:
    # In a process of its own: this one may still hold sockets of other tests.
    done = subprocess.run(
        [sys.executable, "-c", HELD], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_bit_flipped_twice_is_as_before(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    flip(path, 1)
    assert path.read_bytes() == b"acc"
    flip(path, 1)
    assert path.read_bytes() == b"abc"


@pytest.mark.parametrize("harm", ["lost", "leftover_pids", "leftover_shm"])
def test_a_drill_is_passed_only_with_nothing_lost_and_nothing_left(harm: str) -> None:
    report = DrillReport("sigkill", recovered=True)
    assert report.ok
    getattr(report, harm).append("something")
    assert not report.ok
    assert not DrillReport("sigkill").ok


def test_a_link_that_cannot_be_slowed_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # neither ip nor tc
    write_wav(tmp_path / "voice.wav", voice(2.0, 16_000), 16_000)
    report, code, _ = drill(tmp_path, "slow-link")
    assert code == 3
    assert report["recovered"] is None
    assert report["notes"][-1].startswith("not played: ")
    assert not list(tmp_path.glob("state*"))
