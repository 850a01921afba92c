"""Is only that shared memory removed which nobody can need any more?"""

from __future__ import annotations

import os
import time

import pytest

from engine.guard import scan, shm
from engine.guard.kill import ReadOnlyRefused


@pytest.fixture
def folder(tmp_path):
    old = time.time() - 3600
    for name in ("nccl-abc", "torch_999999999_1_0", "psm_1", "sem.mp-x", "avatop-kv-7", "notes"):
        (tmp_path / name).write_bytes(b"x" * 5000)
        os.utime(tmp_path / name, (old, old))
    return tmp_path


def names(found):
    return [leak.name for leak in found]


def look(folder, **kwargs):
    options = {"in_namespace": False, "min_age": 60.0, "now": time.time() + 100, **kwargs}
    return shm.leaks(scan.rows(), folder=folder, **options)


def test_files_by_name_owner_and_age_are_found(folder):
    (folder / "psm_link").symlink_to(folder / "notes")
    (folder / "psm_folder").mkdir()
    found = look(folder, spare={"avatop-kv-7"})
    assert names(found) == ["nccl-abc", "psm_1", "sem.mp-x", "torch_999999999_1_0"]
    assert all(leak.bytes >= 4096 and leak.doubt is None for leak in found)
    assert "NCCL" in found[0].what
    assert look(folder, now=time.time(), min_age=60.0) == ()  # by the time of its last change


def test_a_file_that_is_open_mapped_or_its_creator_s_is_none(folder):
    (folder / f"torch_{os.getpid()}_1_0").write_bytes(b"")
    with (folder / "psm_1").open("rb"), (folder / "nccl-abc").open("r+b") as file:
        import mmap

        held = mmap.mmap(file.fileno(), 4096)
        file.close()
        assert names(look(folder)) == ["avatop-kv-7", "sem.mp-x", "torch_999999999_1_0"]
        held.close()


def test_what_is_certain_is_removed_after_a_second_look(folder):
    found = look(folder)
    (folder / "sem.mp-x").unlink()
    (folder / "psm_1").rename(folder / "kept")
    (folder / "psm_1").write_bytes(b"another")
    said = []
    with (folder / "nccl-abc").open("rb"):
        done = shm.remove(found, folder=folder, audit=lambda a, d: said.append((a, d["name"])))
    results = {item.leak.name: item.result for item in done}
    assert results == {
        "avatop-kv-7": "removed",
        "nccl-abc": "kept",
        "psm_1": "kept",
        "sem.mp-x": "removed",
        "torch_999999999_1_0": "removed",
    }
    assert ("reap.shm", "torch_999999999_1_0") in said
    assert (folder / "notes").exists()


def test_in_a_container_nothing_is_certain(folder):
    found = look(folder, in_namespace=True)
    assert all("containers" in leak.doubt for leak in found)
    assert {item.result for item in shm.remove(found, folder=folder)} == {"kept"}


def test_read_only_removes_nothing(folder):
    with pytest.raises(ReadOnlyRefused, match="read-only"):
        shm.remove(look(folder), folder=folder, read_only=True)
    assert (folder / "nccl-abc").exists()


def test_the_state_of_a_job_is_told_with_its_bytes_and_kept(folder):
    from engine.jobs.kept import _PREFIX

    mirror = folder / f"{_PREFIX}0123456789ab-17"
    mirror.mkdir()
    home = folder / "me"
    home.mkdir()
    (mirror / "job.json").write_text(f'{{"state": "{home}", "job": 17}}')
    (mirror / "ring-0.bin").write_bytes(b"x" * 100_000)
    (found,) = [leak for leak in look(folder) if leak.name == mirror.name]
    assert found.bytes >= 100_000
    assert f"the state of job 17 of {home}, kept so that it can go on" in found.doubt
    (done,) = shm.remove([found], folder=folder)
    assert (done.result, (mirror / "ring-0.bin").exists()) == ("kept", True)
    home.rmdir()  # nobody can go on with it, and no engine will ever look there
    (found,) = [leak for leak in look(folder) if leak.name == mirror.name]
    assert found.doubt.endswith(f"that is gone: no engine removes it; rm -r {mirror}")
    (found,) = [leak for leak in look(folder, in_namespace=True) if leak.name == mirror.name]
    assert "its engine removes it" in found.doubt  # the folder may be another container's
    with (mirror / "ring-0.bin").open("rb"):  # a rank writes it: no leftover of anybody
        assert mirror.name not in names(look(folder))
