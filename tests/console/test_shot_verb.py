"""Does avatop shot write what a console shows, without a terminal?"""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from console.cli import avatop
from tests.console.fake_client import T0, Stage
from tests.e2e.harness import until
from tests.telemetry.recordings import record


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    record(folder, Stage(gpus=2), 30, until, segment_seconds=60.0)
    return folder


def shot(*arguments: str) -> Result:
    return CliRunner().invoke(avatop, ["shot", *arguments])


def test_a_recorded_moment_as_text(recording: Path) -> None:
    done = shot("--recording", str(recording), "--at", str(T0 + 20), "--size", "80x24")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == 24
    assert "2023-11-14 22:13:40" in lines[0]
    assert "gpu-srv-07" in lines[1]


def test_another_page_as_a_picture_in_a_theme_and_language(recording: Path, tmp_path: Path) -> None:
    file = tmp_path / "incidents.svg"
    done = shot("incidents", "--recording", str(recording), "--theme", "light", "--lang", "zh_CN",
                "--size", "120x40", "-o", str(file), "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["page"], told["columns"], told["rows"], told["kind"]) == (
        "incidents", 120, 40, "svg")  # fmt: skip
    drawn = ElementTree.fromstring(file.read_text())
    words = {element.text for element in drawn.iter() if element.text}
    assert any("录像" in word for word in words)


def test_keys_are_pressed_first(recording: Path) -> None:
    done = shot("--recording", str(recording), "--press", "question_mark")
    assert "Everywhere" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere",), "there is no page 'nowhere'"),
        (("--size", "9"), "such as 120x40"),
        (("--size", "9x9"), "from 20x8"),
        (("-o", "a.png"), ".svg (a picture)"),
        (("--theme", "none"), "none"),
        (("--wait", "2"), "does not move"),
    ],
)
def test_what_cannot_be_is_told(recording: Path, arguments: tuple[str, ...], told: str) -> None:
    done = shot("--recording", str(recording), *arguments)
    assert done.exit_code == 2
    assert told in str(done.output) + str(getattr(done, "stderr", ""))


def test_without_an_engine_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path))
    done = shot()
    assert done.exit_code == 1
    assert "no engine is running" in str(done.output) + str(getattr(done, "stderr", ""))


def test_tune_is_drawn_with_its_plan_not_before_it(recording: Path) -> None:
    done = shot("tune", "--recording", str(recording), "--size", "120x40")
    assert done.exit_code == 0, done.output
    assert "reading the devices" not in done.stdout
