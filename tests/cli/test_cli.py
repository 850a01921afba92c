"""Does the command line do what its help and its contract say, quickly and quietly?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from console import cli
from console.version import version
from engine.jobs.store import JobStore
from engine.params import PARAMETERS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AVATOP_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("MODEL_CKPT_DIR", "CKPT_DIR", "IMAGE_PATH", "AUDIO_PATH", "PROMPT"):
        monkeypatch.delenv(name, raising=False)


def _avatop(*args: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(list(args))
    return int(end.value.code or 0)


def _json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_version_is_the_project_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert _avatop("--version") == 0
    assert capsys.readouterr().out == f"avatop {version()}\n"


def test_help_names_every_verb_and_every_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    assert _avatop("--help") == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)
    for verb in ("run", "demo"):
        assert _avatop(verb, "--help") == 0
        text = capsys.readouterr().out
        assert all(parameter.flag in text for parameter in PARAMETERS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_exists_and_explains_itself(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _avatop(verb, "--help") == 0
    assert f"avatop {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["fly"], "No such command 'fly'"),
        (["run", "--wings"], "No such option"),
        (["run", "--size"], "requires an argument"),
        (["jobs", "--limit", "0"], "0"),
        (["run", "stray.png"], "stray.png"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _avatop(*args) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("avatop: ")
    assert says in said.err


def test_flags_are_understood_in_both_spellings(capsys: pytest.CaptureFixture[str]) -> None:
    messages = []
    for flag in ("--infer_frames", "--infer-frames"):
        assert _avatop("run", flag, "80") == 2
        messages.append(capsys.readouterr().err)
    assert messages[0] == messages[1]
    assert "--infer_frames 80: must be a multiple of 12" in messages[0]


def test_switches_are_understood_bare_and_with_a_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for given in (["--fp8"], ["--fp8", "True"], ["--fp8=true"]):
        assert _avatop("run", "--image", str(ROOT / "LICENSE"), *given) == 2
        said = capsys.readouterr().err
        assert "--ckpt_dir: is required" in said
    assert _avatop("run", "--fp8", "perhaps") == 2
    assert "--fp8 perhaps: not a truth value" in capsys.readouterr().err


def test_without_a_verb_and_without_a_terminal_it_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "console"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "avatop run" in done.stderr
    assert "avatop demo" in done.stderr


def test_listing_jobs_makes_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _avatop("jobs", "--json") == 0
    assert _json(capsys) == {"jobs": []}
    assert _avatop("jobs") == 0
    assert "avatop demo" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_jobs_are_listed_the_newest_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = JobStore(tmp_path / "state" / "jobs.sqlite3")
    for number in range(3):
        row = store.create({}, mode="fsdp", size="64*64", clips=number + 1)
        store.update(row.id, state="failed", error=f"bad \x1b[31mcolours {number}")
    store.close()
    assert _avatop("jobs", "--json", "--limit", "2") == 0
    found = _json(capsys)["jobs"]
    assert [job["id"] for job in found] == [3, 2]
    fields = {"id", "state", "mode", "clip", "clips", "fps", "peak_bytes", "output", "error"}
    assert fields <= set(found[0])
    assert _avatop("jobs") == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "colours 2" in text


def test_presets_tell_length_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert _avatop("presets", "--json") == 0
    body = _json(capsys)
    found = {preset["name"]: preset for preset in body["presets"]}
    assert set(found) == {"quick", "standard", "long", "high"}
    assert found["quick"]["values"] == {"size": "384*256", "num_clip": 10, "sample_steps": 3}
    assert found["quick"]["predicted_frames"] == 477
    assert found["high"]["memory_bytes"]["single"] > found["quick"]["memory_bytes"]["single"]
    assert found["high"]["memory_bytes"]["fsdp_4"] < found["high"]["memory_bytes"]["single"]
    assert found["quick"]["seconds_per_block"] is None  # nothing has measured it
    assert _avatop("presets", "--ckpt-dir", str(ROOT / "sample_data" / "ckpt"), "--json") == 0
    small = _json(capsys)["presets"][0]["memory_bytes"]["single"]
    assert small < found["quick"]["memory_bytes"]["single"] / 10
    assert _avatop("presets", "--ckpt_dir", "/nowhere") == 2
    assert "/nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["--fp8", "--kv_dtype fp8", "--size 384*256 --mode tpp"])
def test_a_switch_that_would_alter_the_output_is_refused_as_such(
    flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _avatop("switch", "1", *flags.split()) == 3
    assert f"{flags.split()[0]} would alter the output" in capsys.readouterr().err
    assert _avatop("switch", "--help") == 0
    assert " --size" not in capsys.readouterr().out  # what cannot be had is not offered


def test_a_preset_of_ones_own_may_say_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "presets.toml"
    file.write_text(
        '[tryme]\nmode = "tpp"\nvariant = "ring"\nnum_gpus_dit = 4\n'
        '[twice]\nfp8 = true\ndtype = "fp32"\n'
    )
    monkeypatch.setenv("AVATOP_PRESETS_FILE", str(file))
    assert _avatop("presets", "--json") == 0
    found = {preset["name"]: preset for preset in _json(capsys)["presets"]}
    assert found["tryme"]["memory_bytes"] == found["high"]["memory_bytes"]
    assert found["tryme"]["values"]["num_gpus_dit"] == 4
    assert set(found["twice"]["memory_bytes"].values()) == {None}  # its values contradict
    assert _avatop("presets") == 0
    assert capsys.readouterr().out.count("n/a") == 2


def test_a_reader_that_leaves_gets_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "console", "presets", "--json"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            timeout=30,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "line",
    ["run", "submit --num_clip 3", "cancel 1", "stop", "drill port", "alerts silence x --for 1h",
     "batch a b c", "batch retry 1", "release rollback", "reap --yes"],
)  # fmt: skip
def test_read_only_refuses_every_verb_that_changes_something(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AVATOP_READ_ONLY", "1")
    assert _avatop(*line.split()) == 3
    assert "read-only" in (told := capsys.readouterr().err.lower()) or "read_only" in told
    assert _avatop("alerts") == _avatop("jobs") == _avatop("batch", "list") == 0
