"""Is a job on a damaged checkpoint refused with one clear message before anything is started?"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from console import cli
from tests.bad_inputs import base_argv, make_files
from tests.checkpoint.test_damaged import DAMAGES, LORA
from tests.tiny import tiny_ckpt


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_files(folder)
    return folder


@pytest.mark.parametrize("name", DAMAGES)
def test_a_job_on_it_is_refused(
    name: str,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AVATOP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AVATOP_CACHE_DIR", str(tmp_path / "cache"))
    copy = Path(shutil.copytree(tiny_ckpt(), tmp_path / "ckpt"))
    damage, file, tensor, told = DAMAGES[name]
    damage(copy)
    lora = ("--load_lora", "--lora_path_dmd", str(copy / LORA)) if file == LORA else ()
    with pytest.raises(SystemExit) as end:
        cli.main(["run", *base_argv(inputs, copy), *lora])
    said = capsys.readouterr()
    assert end.value.code == 2, said.err
    assert said.out == ""
    (message,) = [line for line in said.err.splitlines() if line.startswith("avatop: ")]
    assert Path(file).name in message
    assert told in message
    assert tensor is None or tensor in message
    assert not (tmp_path / "state" / "jobs").exists()
    assert not (tmp_path / "cache").exists()
