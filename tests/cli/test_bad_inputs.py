"""Is every bad input answered by one clear message and exit 2, with nothing left behind?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from console import cli
from engine.params import PARAMETERS
from engine.preflight import Machine
from engine.resources import sample_data
from engine.services import Services
from tests.bad_inputs import BAD_INPUTS, BadInput, base_argv, filled, make_files

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_files(folder)
    return folder


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for parameter in PARAMETERS:
        for name in parameter.env_names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AVATOP_CACHE_DIR", str(tmp_path / "cache"))


def _nothing_left(folder: Path) -> bool:
    """No job, no video, no segment: at most an empty store and the engine's log."""
    state = folder / "state"
    left = {path.name for path in state.iterdir()} if state.exists() else set()
    store = state / "jobs.sqlite3"
    if store.exists():
        from engine.jobs.store import JobStore

        jobs = JobStore(store)
        rows = jobs.list()
        jobs.close()
        assert rows == ()
    return not left & {"jobs", "outputs"} and not (folder / "cache").exists()


@pytest.mark.parametrize("case", BAD_INPUTS, ids=lambda case: case.name)
def test_bad_input(
    case: BadInput,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in case.env.items():
        monkeypatch.setenv(name, value)
    ckpt = sample_data() / "ckpt"
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "--json", *base_argv(inputs, ckpt), *filled(case, inputs)])
    said = capsys.readouterr()
    assert end.value.code == 2, said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    (message,) = [line for line in said.err.splitlines() if line.startswith("avatop: ")]
    assert all(word in message for word in case.says), message
    assert _nothing_left(tmp_path)


def test_several_mistakes_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--infer_frames", "80", "--sample_steps", "0"])
    said = capsys.readouterr().err
    assert said.count("avatop: ") == 1
    assert "infer_frames 80" in said
    assert "sample_steps 0" in said


def test_a_plan_that_does_not_fit_is_refused_with_exit_3(
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def crowded(_: Services) -> Machine:
        return Machine(host_total=1 << 30, host_available=1 << 20)

    monkeypatch.setattr(Services, "machine", crowded)
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "--gpus", "cpu", *base_argv(inputs, sample_data() / "ckpt")])
    assert end.value.code == 3
    told = capsys.readouterr().err
    assert "does not fit" in told
    assert "Nothing that was tried fits" in told
    assert _nothing_left(tmp_path)


def test_a_refusal_of_a_launch_names_what_would_fit(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--gpus", "cpu", "--mode", "tpp", "--num_gpus_dit", "4", "--host_memory", "1900MiB"]
    with pytest.raises(SystemExit) as end:
        cli.main(["run", *base_argv(inputs, sample_data() / "ckpt"), *asked])
    assert end.value.code == 3
    told = capsys.readouterr().err
    assert "mode tpp does not fit: 4 CPU ranks need" in told
    assert "What would fit, nearest first: --mode " in told


def test_the_same_through_a_process_of_its_own(inputs: Path, tmp_path: Path) -> None:
    case = next(case for case in BAD_INPUTS if case.name == "silent audio")
    argv = [*base_argv(inputs, sample_data() / "ckpt"), *filled(case, inputs)]
    done = subprocess.run(
        [sys.executable, "-m", "console", "run", *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert all(word in done.stderr for word in case.says)
    assert _nothing_left(tmp_path)
