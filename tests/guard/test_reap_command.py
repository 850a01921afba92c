"""``avatop reap``: dry by default, recorded when not, refused when it must be."""

from __future__ import annotations

import json
import os
import sys

import pytest
from click.testing import CliRunner

from console.commands import reap as module
from engine.guard import kill, marks, reaper
from engine.guard.identity import boot_id, identify
from engine.jobs.paths import Places
from engine.jobs.store import JobStore
from engine.messages import DeviceReading, ProcessReading
from engine.telemetry.devices import Picked
from tests.guard.scenarios import GIB, Planted, state


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """The command as it is, with the second belt on: it may signal nothing but what is planted."""
    planted = Planted()
    real = reaper.Reaper

    def belted(**kwargs):
        return real(**kwargs, allow=planted.allow, in_namespace=False, shm_folder=tmp_path / "shm")

    monkeypatch.setattr(module, "Reaper", belted)
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("AVATOP_READ_ONLY", raising=False)
    yield planted
    planted.close()


class OneGpu:
    name = "nvml"

    def __init__(self, *pids: int) -> None:
        self.pids = pids

    def memory(self) -> dict[str, int | None]:
        return {}

    def read(self) -> tuple[DeviceReading, ...]:
        held = [pid for pid in self.pids if state(pid) not in (None, "Z")]
        readings = tuple(ProcessReading(pid, 0.0, memory={"GPU-0": 2 * GIB}) for pid in held)
        return (DeviceReading(0, "H200", "GPU-0", "nvml", processes=readings),)

    def close(self) -> None: ...


@pytest.fixture
def orphan(planted, monkeypatch):
    (pid,) = planted.orphans()
    monkeypatch.setattr(module, "pick_source", lambda: Picked(OneGpu(pid), None))
    return pid


def run(*args: str):
    return CliRunner().invoke(module.reap, args)


def test_a_dry_run_is_the_default_and_has_the_contract_s_fields(orphan):
    result = run("--json")
    assert result.exit_code == 0
    body = json.loads(result.stdout)
    assert body["dry_run"] is True
    action = next(a for a in body["actions"] if a["pid"] == orphan)
    assert {"pid", "started", "class", "action", "result", "freed_bytes"} <= set(action)
    assert (action["class"], action["action"], action["result"]) == ("orphan", "end", "dry run")
    assert action["started"] == identify(orphan).started
    assert action["freed_bytes"] is None
    assert action["memory"] == {"GPU-0": 2 * GIB}
    assert state(orphan) == "S"
    assert not Places.of().database.exists()


def test_with_yes_it_ends_what_was_shown_tells_what_was_freed_and_records_it(orphan):
    result = run("--yes", "--json", "--pid", str(orphan))
    assert result.exit_code == 0, result.output
    (action,) = json.loads(result.stdout)["actions"]
    assert (action["action"], action["result"]) == ("TERM", kill.ENDED)
    assert action["freed_bytes"] == 2 * GIB
    store = JobStore(Places.of().database)
    entries = {entry.action: entry.detail for entry in store.audits()}
    store.close()
    assert entries["reap.begin"]["pid"] == orphan
    assert entries["reap"]["result"] == kill.ENDED
    (action,) = json.loads(run("--yes", "--json", "--pid", str(orphan)).stdout)["actions"]
    assert (action["action"], action["freed_bytes"]) == ("none", None)


def test_a_number_that_nobody_has_is_no_error(planted):
    result = run("--yes", "--json", "--pid", str(2**22 + 5))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["actions"][0]["result"] == kill.GONE


def test_for_people_there_is_evidence_and_no_escape_code(planted, monkeypatch):
    env = {"TORCHELASTIC_RUN_ID": "\x1b[31m"}
    (pid,) = planted.orphans(
        env=env, body=f'exec {sys.executable} -S -c "import time; time.sleep(300)" "\x1b"'
    )
    monkeypatch.setattr(module, "pick_source", lambda: Picked(OneGpu(pid), None))
    result = run("--pid", str(pid))
    assert "of a torchrun" in result.stdout
    assert "2.00 GiB" in result.stdout
    assert "\x1b" not in result.stdout
    assert "Nothing was touched" in result.stderr


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_read_only_refuses_with_3(orphan, monkeypatch, by):
    if by == "environment":
        monkeypatch.setenv("AVATOP_READ_ONLY", "1")
    flags = ["--read-only"] if by == "flag" else []
    result = run("--yes", "--json", *flags)
    assert result.exit_code == 3
    assert state(orphan) == "S"
    assert run("--json", *flags).exit_code == 0  # looking is allowed


def test_what_must_not_be_ended_is_refused_with_3_though_it_was_typed(planted):
    bystander = planted.sleep()
    result = run("--yes", "--json", "--pid", str(bystander.pid), "--pid", str(os.getpid()))
    assert result.exit_code == 3
    kinds = {a["pid"]: (a["class"], a["result"]) for a in json.loads(result.stdout)["actions"]}
    assert kinds == {
        bystander.pid: ("healthy", "none"),
        os.getpid(): ("protected", "none"),
    }
    assert bystander.poll() is None


def test_what_cannot_be_recorded_is_not_done(orphan, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "file"))
    assert run("--yes", "--pid", str(orphan)).exit_code == 3
    assert state(orphan) == "S"


def test_a_number_that_is_none_is_bad_usage():
    assert run("--pid", "0").exit_code == 2
    assert run("--pid", "one").exit_code == 2


def test_an_engine_s_mark_names_it_and_nothing_else_reads_as_one():
    me = identify(os.getpid())
    assert marks.parse(marks.environment()[marks.MARK]) == me
    assert me.boot == boot_id()
    for text in (None, "", "1:2", "a:2:b", "1:-2:b", "1:2:3:4"):
        assert marks.parse(text) is None
