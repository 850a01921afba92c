"""Where ``sample_data/`` and ``themes/`` lie: beside ``engine/``, in a checkout or in a wheel."""

from __future__ import annotations

from pathlib import Path

from engine.sentence import sentence

_ENGINE = Path(__file__).resolve().parent


def sample_data() -> Path:
    """The folder of sample inputs and the tiny checkpoint.

    Raises:
        FileNotFoundError: it is not there.
    """
    return _beside("sample_data")


def themes() -> Path:
    """The folder of colour themes.

    Raises:
        FileNotFoundError: it is not there.
    """
    return _beside("themes")


def _beside(name: str) -> Path:
    folder = _ENGINE.parent / name
    if folder.is_dir():
        return folder
    raise FileNotFoundError(
        sentence(
            "{name} is missing beside {engine}: the installation is incomplete, reinstall avatop",
            name=name,
            engine=_ENGINE,
        )
    )
