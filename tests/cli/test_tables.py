"""Are tables of verbs in the person's language, and straight though its characters are wide?"""

from __future__ import annotations

import contextvars
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from console import cli, i18n
from console.commands import ckpt, gpus, jobs, presets, reap, release_show
from console.commands.columns import Columns
from console.format import cells
from engine.jobs.store import JobStore

T = TypeVar("T")
#: Names and units that are the same in every language.
NAMES = {"#", "n", "pid", "rank", "rss GiB", "single", "fsdp x4", "fps"}
GATE = {"gate": "psnr", "baseline": 40.0, "candidate": 41.0, "deviation": 0.025, "low": None,
        "high": None, "allowed": 0.02, "n": 8, "unit": "", "verdict": "PASS", "armed": False,
        "note": "by hand"}  # fmt: skip
TABLES = (jobs._TABLE, gpus._DEVICES, gpus._PROCESSES, presets._TABLE, reap._TABLE, ckpt._TABLE,
          release_show._GATES)  # fmt: skip


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("MODEL_CKPT_DIR", raising=False)


def in_chinese(do: Callable[[], T]) -> T:
    """What ``do`` gives while the language is Chinese, which no other test notices."""

    def go() -> T:
        i18n.use("zh_CN")
        return do()

    return contextvars.copy_context().run(go)


def said(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What ``avatop`` prints, its language forgotten afterwards."""

    def go() -> None:
        with pytest.raises(SystemExit) as end:
            cli.main(list(args))
        assert not end.value.code

    contextvars.copy_context().run(go)
    return capsys.readouterr().out


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.columns[-1].head)
def test_every_head_is_in_the_person_s_language(table: Columns) -> None:
    for column in table.columns:
        if column.head not in NAMES:
            assert in_chinese(lambda head=column.head: i18n.t(head)) != column.head
    # Words begin under their heads, however wide those are.
    heads = in_chinese(table.head)
    row = in_chinese(lambda: table.row(*("1" for _ in table.columns)))
    last = in_chinese(lambda: i18n.t(table.columns[-1].head))
    assert cells(heads) - cells(last) == cells(row) - 1


def test_a_list_of_jobs_in_chinese_is_straight(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = JobStore(tmp_path / "state" / "jobs.sqlite3")
    for state in ("cancelled", "failed"):
        made = store.create({}, mode="tpp", size="704*384", clips=50)
        store.update(made.id, state=state, output="/out/a.mp4", fps=48.1)
    store.close()
    head, *rows = said(capsys, "--lang", "zh_CN", "jobs").splitlines()
    assert "状态" in head
    fps = in_chinese(lambda: i18n.t("fps"))
    assert "失败" in rows[0]
    for row in rows:
        assert cells(row[: row.index("48.1") + 4]) == cells(head[: head.index(fps) + len(fps)])
        assert cells(row[: row.index("/out")]) == cells(head[: head.index("输出")])
    spoken = json.loads(said(capsys, "--lang", "zh_CN", "jobs", "--json"))
    assert spoken == json.loads(said(capsys, "jobs", "--json"))
    assert [job["state"] for job in spoken["jobs"]] == ["failed", "cancelled"]


def test_gates_in_chinese_are_straight() -> None:
    head, row = in_chinese(lambda: list(release_show.gate_lines([GATE])))
    assert cells(head[: head.index("结论")]) == cells(row[: row.index("PASS")])
    assert "(未启用)" in row
