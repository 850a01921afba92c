"""Where ``sample_data/`` and ``themes/`` lie, in a checkout or in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_ENGINE = Path(__file__).resolve().parent


def sample_data() -> Path:
    """The folder of sample inputs and the tiny checkpoint.

    Raises:
        FileNotFoundError: neither place has it.
    """
    for folder in (_ENGINE / "_sample_data", _ENGINE.parent / "sample_data"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"sample_data is missing beside {_ENGINE}: the installation is incomplete, reinstall avatop"
    )


def themes() -> Path:
    """The folder of colour themes (a package folder in both kinds of installation).

    Raises:
        FileNotFoundError: it is not there.
    """
    folder = _ENGINE.parent / "themes"
    if folder.is_dir():
        return folder
    raise FileNotFoundError(
        f"themes is missing beside {_ENGINE}: the installation is incomplete, reinstall avatop"
    )
