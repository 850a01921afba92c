"""The version of this program: from the installed package, else from the checkout."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path


def version() -> str:
    """``X.Y.Z``. A checkout that was never installed tells its ``pyproject.toml``'s version."""
    try:
        return importlib.metadata.version("avatop")
    except importlib.metadata.PackageNotFoundError:
        project = Path(__file__).resolve().parent.parent / "pyproject.toml"
        with project.open("rb") as file:
            return str(tomllib.load(file)["project"]["version"])
