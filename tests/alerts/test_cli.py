"""Is the command line enough at three in the morning?"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from console import cli
from engine.alerts.book import Book
from engine.alerts.states import Alert
from engine.jobs.paths import Places
from engine.jobs.store import JobStore


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AVATOP_ALERTS_FILE", str(tmp_path / "alerts.toml"))


def _avatop(*args: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(list(args))
    return int(end.value.code or 0)


def _lines(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _fill() -> None:
    now = time.time()
    alerts = [
        Alert(name, rule, severity, state, "k", now - 90, now, message="said \x1b[31mred")
        for name, rule, severity, state in (
            ("memory-high-aa", "memory-high", "warning", "firing"),
            ("temperature-high-aa", "temperature-high", "critical", "firing"),
            ("temperature-high-bb", "temperature-high", "critical", "acknowledged"),
            ("disk-low", "disk-low", "warning", "resolved"),
        )
    ]
    Book(Places.of().state).save(alerts, [])


def test_the_list_is_by_gravity_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert _avatop("alerts", "--json") == 0
    assert _lines(capsys) == []
    assert not Places.of().state.exists()  # looking makes nothing
    _fill()
    assert _avatop("alerts", "--json") == 0
    found = _lines(capsys)
    assert [a["id"] for a in found][-1] == "memory-high-aa"
    assert {"rule", "severity", "state", "device", "job", "value", "since"} <= set(found[0])
    assert _avatop("alerts", "list", "--all") == 0
    said = capsys.readouterr()
    assert "disk-low" in said.out
    assert "\x1b" not in said.out
    assert "No engine runs" in said.err


def test_ack_and_silence_by_id_beginning_or_rule(capsys: pytest.CaptureFixture[str]) -> None:
    _fill()
    assert _avatop("alerts", "ack", "mem", "--json") == 0
    (body,) = _lines(capsys)
    assert body["order"]["target"] == "memory-high-aa"
    assert [a["state"] for a in body["alerts"]] == ["acknowledged"]
    assert _avatop("alerts", "silence", "temperature-high", "--for", "2h") == 0
    assert capsys.readouterr().out.count("silenced") == 2
    assert _avatop("alerts", "silence", "zombies", "--for", "1h") == 0  # before it fires
    assert [o.kind for o in Book(Places.of().state).take_orders()] == ["ack", "silence", "silence"]
    store = JobStore(Places.of().database)
    assert {"alert-ack", "alert-silence"} <= {entry.action for entry in store.audits()}
    store.close()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["ack", "nothing"], "no alert nothing; there are: memory-high-aa"),
        (["ack", "t"], "fits temperature-high-aa, temperature-high-bb"),
        (["silence", "memory-high-aa", "--for", "soon"], "no duration such as 2h"),
        (["test-delivery"], "there are none: write [[notify.target]]"),
        (["validate", "--file", "not-there.toml"], "no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _fill()
    assert _avatop("alerts", *args) == 2
    assert says in capsys.readouterr().err


def test_validate_tells_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _avatop("alerts", "validate", "--json") == 0
    (body,) = _lines(capsys)
    assert body["ok"]
    assert "memory-high" in [rule["id"] for rule in body["rules"]]
    (tmp_path / "alerts.toml").write_text(
        "[[rule]]\nid = 'a'\nwhen = 'throtle'\n"
        "[[notify.target]]\nname = 'ops'\nurl_env = 'NO_SUCH'\n"
    )
    assert _avatop("alerts", "validate") == 2
    said = capsys.readouterr().out
    assert "did you mean throttle" in said
    assert "NO_SUCH is not set" in said


def test_a_test_delivery_that_fails_exits_1_and_keeps_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "alerts.toml").write_text("[[notify.target]]\nname='ops'\nurl_env='OPS_URL'\n")
    # Nothing listens on port 1 of this host.
    monkeypatch.setenv("OPS_URL", "http://127.0.0.1:1/cgi-bin/webhook/send?key=hunter2secret")
    assert _avatop("alerts", "test-delivery") == 1
    said = capsys.readouterr()
    assert "wecom cannot be reached" in said.out
    assert "hunter2secret" not in said.out + said.err


def test_rules_are_exported(capsys: pytest.CaptureFixture[str]) -> None:
    assert _avatop("alerts", "export-prometheus") == 0
    assert '- alert: "MemoryHigh"' in capsys.readouterr().out
