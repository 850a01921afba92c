"""Is each bad input refused, before a device is touched, with the message it deserves?"""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.media.lint import lint_inputs
from engine.params import ParamError, resolve
from tests.bad_inputs import BAD_INPUTS, BadInput, base_argv, filled, make_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_files(folder)
    return folder


def verdict(argv: tuple[str, ...], env: dict[str, str], folder: Path) -> str:
    """What a user would be told; empty if the input is good."""
    flags = dict(zip(argv[::2], argv[1::2], strict=True))
    config = flags.pop("--config", None)
    try:
        request = resolve(flags, env, Path(config) if config else None).request
    except ParamError as error:
        return str(error)
    assert request.image
    assert request.audio
    lint = lint_inputs(Path(request.image), Path(request.audio), request.prompt)
    return "\n".join(finding.sentence for finding in lint.errors)


def test_are_the_valid_arguments_good(files: Path) -> None:
    assert verdict(base_argv(files, files), {}, files) == ""


@pytest.mark.parametrize("case", BAD_INPUTS, ids=lambda case: case.name)
def test_is_it_refused_with_one_clear_message(case: BadInput, files: Path) -> None:
    before = sorted(files.iterdir())
    argv = (*base_argv(files, files), *filled(case, files))
    text = verdict(argv, dict(case.env), files)
    assert text, "was accepted"
    assert len(text.splitlines()) == 1, text
    for part in case.says:
        assert part in text
    (files / "job.toml").unlink(missing_ok=True)
    assert sorted(files.iterdir()) == before


def test_are_there_twenty() -> None:
    assert len(BAD_INPUTS) >= 20
    assert len({case.name for case in BAD_INPUTS}) == len(BAD_INPUTS)
