"""Are sample inputs and themes found where this installation keeps them?"""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import resources


def test_are_both_folders_found_in_a_checkout() -> None:
    assert resources.sample_data().name == "sample_data"
    assert resources.themes().name == "themes"


def test_is_a_missing_folder_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_ENGINE", tmp_path / "engine")
    for find in (resources.sample_data, resources.themes):
        with pytest.raises(FileNotFoundError, match="reinstall"):
            find()
