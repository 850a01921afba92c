"""Does ``avatop batch`` hold with real ranks, real signals and a real terminal's words?"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from console import cli
from engine.media.audio import audio_info
from engine.resources import sample_data
from tests.batch.bench import make_pair
from tests.e2e.harness import PROMPT, environment, ranks_of, start_cli, until


def _args(folder: Path, *more: str) -> list[str]:
    flags = {
        "ckpt_dir": sample_data() / "ckpt",
        "size": "64*64",
        "num_clip": 1,
        "sample_steps": 1,
        "gpus": "cpu",
        "prompt": PROMPT,
    }
    return [
        *("batch", *(str(folder / name) for name in ("audio", "image", "out"))),
        *(part for name, value in flags.items() for part in (f"--{name}", str(value))),
        *("--retry-wait", "0", "--json", *more),
    ]


def _ended(process: subprocess.Popen[str]) -> tuple[int, Any, str]:
    out, said = process.communicate(timeout=140)
    return process.returncode, json.loads(out) if out else None, said


def _here(*args: str) -> int:
    """The command in this process, which spares its start."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(args))
    return int(end.value.code or 0)


@pytest.mark.ranks
@pytest.mark.timeout(300)
def test_B1_stopped_gone_on_with_and_with_a_killed_rank_every_video_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pair(tmp_path, "a studio", rate=44_100)
    make_pair(tmp_path, "b")
    (tmp_path / "audio" / "alone.wav").write_bytes((tmp_path / "audio" / "b.wav").read_bytes())
    args = _args(tmp_path, "--post-command", "cp {output} copy-of-{job}.mp4")

    first = start_cli(args, tmp_path)
    until(lambda: ranks_of(first.pid))
    first.send_signal(signal.SIGINT)
    code, body, said = _ended(first)
    assert code == 130, said
    assert body["state"] == "stopped"
    assert body["totals"]["waiting"] == 2
    assert "alone has a sound and no portrait" in said
    assert "go on with: avatop batch resume" in said

    second = start_cli(args, tmp_path)
    until(lambda: ranks_of(second.pid))[0].kill()
    code, again, said = _ended(second)
    assert code == 0, said
    assert again["batch"] == body["batch"]
    items = {item["name"]: item for item in again["items"]}
    assert {name: item["state"] for name, item in items.items()} == {
        "a studio": "done", "b": "done"
    }  # fmt: skip
    assert (items["a studio"]["attempts"], items["b"]["attempts"]) == (2, 1)
    assert all(item["fps"] and item["peak_bytes"] and item["frames"] == 45
               for item in items.values())  # fmt: skip
    assert audio_info(tmp_path / "out" / "a studio.mp4").rate == 44_100
    assert [item["post"] for item in items.values()] == ["done", "done"]
    assert len(list((tmp_path / "out").glob("copy-of-*.mp4"))) == 2
    assert [entry["kind"] for entry in again["interventions"]] == ["stopped", "resumed"]

    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    report = str(tmp_path / "out" / f"report-{again['batch']}.json")
    for words, says in (
        (["list"], again["batch"]),
        (["report", str(tmp_path / "out"), "--compare", report], "seconds of work per item"),
        (["report", again["batch"], "--format", "csv"], "a studio"),
    ):
        assert _here("batch", *words) == 0
        told = capsys.readouterr().out
        assert says in told, (words, told)
        assert "\x1b" not in told


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--lines", "0"), "--lines 0"),
        (("--resolution-table", "30"), "resolution table"),
        (("--post-command", "echo {wings}"), "{wings}"),
        (("--item-timeout", "0"), "item-timeout"),
        (("--release", "v9"), "v9"),
    ],
)
def test_B1_a_mistake_is_told_and_leaves_no_batch(
    change: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    make_pair(tmp_path, "a")
    assert _here(*_args(tmp_path, *change)) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == ""
    assert _here("batch", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"batches": []}
    assert _here("batch", "report", "nowhere") == 2
    assert "there is no batch nowhere" in capsys.readouterr().err
