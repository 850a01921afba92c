"""Are files counted while somebody removes them?"""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.guard import scan, shm
from engine.guard.known import STATE_PREFIX
from engine.tree import files_below


def test_what_vanishes_meanwhile_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "two").write_bytes(b"xy")
    assert sorted(info.st_size for info in files_below(tmp_path)) == [1, 2]
    found = files_below(tmp_path)
    assert next(found).st_size == 1
    shutil.rmtree(tmp_path / "below")
    assert list(found) == []
    assert list(files_below(tmp_path / "below")) == []


def test_a_mirror_that_vanishes_while_it_is_looked_at_is_no_error(
    tmp_path: Path, monkeypatch
) -> None:
    mirror = tmp_path / f"{STATE_PREFIX}0123456789ab-1"
    mirror.mkdir()
    (mirror / "kv").write_bytes(b"x")
    within = shm._used

    def late(*args):
        found = within(*args)
        shutil.rmtree(mirror)
        return found

    monkeypatch.setattr(shm, "_used", late)
    (leak,) = shm.leaks(scan.rows(), in_namespace=False, min_age=0.0, folder=tmp_path)
    assert leak.name == mirror.name
