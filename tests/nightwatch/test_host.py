"""Are full disks, files that change, and clocks that jump seen, told, and harmless?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.checkpoint.fingerprint import files_of
from engine.checkpoint.layout import find
from engine.nightwatch.checkpoints import FileWatch, touched
from engine.nightwatch.clock import ClockWatch
from engine.nightwatch.disk import largest_clip, trouble
from engine.preflight import DISK_RESERVE
from engine.resources import sample_data

MIB = 1 << 20


def _free(count: int):
    return lambda path: SimpleNamespace(free=count)


def test_a_disk_that_cannot_take_the_next_clips_is_told_with_its_bytes(tmp_path: Path) -> None:
    clip = 10 * MIB
    needed = DISK_RESERVE + 2 * clip
    assert trouble([tmp_path], clip, _free(needed)) is None
    found = trouble([tmp_path / "not" / "yet"], clip, _free(needed - 1))
    assert found is not None
    assert (found.folder, found.free, found.needed) == (tmp_path, needed - 1, needed)
    assert f"({needed - 1} bytes)" in found.sentence
    assert "84 MiB are kept" in found.sentence


def test_a_folder_that_may_not_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found = trouble([tmp_path], 0, _free(1 << 40))
    assert found is not None
    assert "read-only" in found.sentence


def test_the_largest_clip_is_by_its_file(tmp_path: Path) -> None:
    assert largest_clip(tmp_path / "nothing") == 0
    for n, size in enumerate((5, 9, 7)):
        (tmp_path / f"clip_{n:04d}.mp4").write_bytes(b"x" * size)
    assert largest_clip(tmp_path) == 9


def test_a_clock_that_was_set_is_told_from_a_machine_that_slept() -> None:
    now = {"wall": 0.0, "steady": 0.0, "boot": 0.0}
    clock = ClockWatch(lambda: now["wall"], lambda: now["steady"], lambda: now["boot"])

    def after(**seconds: float) -> str | None:
        for name, step in seconds.items():
            now[name] += step
        return clock.look()

    assert after(wall=2.0, steady=2.0, boot=2.0) is None
    assert after(wall=2.4, steady=2.0, boot=2.0) is None  # slewed
    forward = after(wall=3602.0, steady=2.0, boot=2.0)
    assert forward is not None
    assert "forward by 3600 s" in forward
    back = after(wall=-598.0, steady=2.0, boot=2.0)
    assert back is not None
    assert "back by 600 s" in back
    slept = after(wall=902.0, steady=2.0, boot=902.0)
    assert slept == "the machine was suspended for 900 s"
    assert after(wall=2.0, steady=2.0, boot=2.0) is None


def test_a_job_needs_the_files_that_it_reads_and_no_others(tmp_path: Path) -> None:
    layout = find(sample_data() / "ckpt")
    files = files_of(layout)
    names = {path.name for path in files}
    assert {"config.json", "Wan2.1_VAE.pth"} <= names
    assert any(name.endswith(".safetensors") for name in names)
    assert not any("liveavatar" in name for name in names if layout.lora is None)
    one = next(iter(files))
    assert touched({1: files, 2: frozenset()}, [one, tmp_path / "x"]) == {1: (one,)}


async def test_a_file_that_changes_is_told_for_the_jobs_that_need_it(tmp_path: Path) -> None:
    wanted, other = tmp_path / "a.safetensors", tmp_path / "b.txt"
    wanted.write_bytes(b"1")
    told: list[dict[int, tuple[Path, ...]]] = []
    heard = asyncio.Event()

    async def hear(found: dict[int, tuple[Path, ...]]) -> None:
        told.append(found)
        heard.set()

    watch = FileWatch(hear)
    running = asyncio.create_task(watch.run())
    watch.need({7: frozenset({wanted}), 8: frozenset({tmp_path / "c"})})
    # The kernel's watch is set up beside us: go on changing until it has seen one.
    for number in range(200):
        other.write_bytes(b"x")
        wanted.write_bytes(b"%d" % number)
        try:
            await asyncio.wait_for(heard.wait(), 0.2)
        except TimeoutError:
            continue
        break
    running.cancel()
    assert told
    assert told[0] == {7: (wanted,)}
