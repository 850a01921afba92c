"""Which clips are whole after anything, and is the record of the shape others read?"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.jobs.manifest import Clip, ManifestError, ManifestWriter, read_manifest
from engine.jobs.paths import Places

REQUEST = {"prompt": "hello", "base_seed": 1}


def commit(writer: ManifestWriter, clip: int, content: bytes = b"video") -> Clip:
    temporary = writer.clip_path(clip).with_suffix(".mp4.part")
    temporary.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return writer.commit(clip, temporary, frames=48, seconds=2.0, fps=24.0, sha256=digest)


def test_is_the_manifest_of_the_articles_shape(tmp_path: Path) -> None:
    writer = ManifestWriter(tmp_path, "v1.0", REQUEST)
    commit(writer, 0)
    commit(writer, 1)
    writer.finish("completed")
    data = json.loads((tmp_path / "manifest.json").read_text())
    assert (data["version"], data["status"]) == ("v1.0", "completed")
    assert [clip["path"] for clip in data["clips"]] == ["clip_0000.mp4", "clip_0001.mp4"]
    assert data["clips"][0]["frames"] == 48
    read = read_manifest(tmp_path)
    assert read == writer.manifest
    assert read.frames == 96
    assert len(read.whole(verify=True)) == 2
    assert not list(tmp_path.glob("*.part"))


def test_does_a_file_without_a_line_not_count(tmp_path: Path) -> None:
    writer = ManifestWriter(tmp_path, "v1.0", REQUEST)
    commit(writer, 0)
    writer.clip_path(1).write_bytes(b"renamed, then the machine stopped")
    assert len(read_manifest(tmp_path).whole()) == 1
    again = ManifestWriter(tmp_path, "v1.0", REQUEST)
    commit(again, 1, b"made again")
    assert writer.clip_path(1).read_bytes() == b"made again"


@pytest.mark.parametrize("keep", range(1, 60, 7))
def test_is_a_torn_last_line_ignored_and_replaced(tmp_path: Path, keep: int) -> None:
    writer = ManifestWriter(tmp_path, "v1.0", REQUEST)
    commit(writer, 0)
    lines = tmp_path / "manifest.jsonl"
    whole = lines.read_bytes()
    commit(writer, 1)
    lines.write_bytes(lines.read_bytes()[: len(whole) + keep])
    assert len(read_manifest(tmp_path).clips) == 1
    again = ManifestWriter(tmp_path, "v1.0", REQUEST)
    commit(again, 1)
    assert len(read_manifest(tmp_path).whole(verify=True)) == 2


def test_which_clips_are_whole_when_files_are_lost_or_changed(tmp_path: Path) -> None:
    writer = ManifestWriter(tmp_path, "v1.0", REQUEST)
    for clip in range(3):
        commit(writer, clip)
    writer.clip_path(2).write_bytes(b"VIDEO")
    assert len(read_manifest(tmp_path).whole()) == 3
    assert len(read_manifest(tmp_path).whole(verify=True)) == 2
    writer.clip_path(0).unlink()
    assert read_manifest(tmp_path).whole() == ()


def test_are_clips_of_another_request_not_mixed_in(tmp_path: Path) -> None:
    commit(ManifestWriter(tmp_path, "v1.0", REQUEST), 0)
    for version, request in (("v1.1", REQUEST), ("v1.0", {**REQUEST, "base_seed": 2})):
        with pytest.raises(ManifestError, match="another request or version"):
            ManifestWriter(tmp_path, version, request)
    assert len(ManifestWriter(tmp_path, "v1.0", REQUEST).manifest.clips) == 1


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no manifest"):
        read_manifest(tmp_path)
    writer = ManifestWriter(tmp_path, "v1.0", REQUEST)
    with pytest.raises(ManifestError, match="clip 2 cannot be committed after 0"):
        commit(writer, 1)
    with pytest.raises(ManifestError, match="could not be committed"):
        writer.commit(0, tmp_path / "no", frames=1, seconds=1, fps=1, sha256="")
    (tmp_path / "manifest.jsonl").write_text("rubbish")
    with pytest.raises(ManifestError, match="damaged"):
        read_manifest(tmp_path)


def test_can_a_manifest_name_no_file_elsewhere(tmp_path: Path) -> None:
    writer = ManifestWriter(tmp_path / "in", "v1.0", REQUEST)
    commit(writer, 0)
    lines = tmp_path / "in" / "manifest.jsonl"
    lines.write_text(lines.read_text().replace("clip_0000.mp4", "../clip_0000.mp4"))
    assert read_manifest(tmp_path / "in").clips == ()


def test_do_committed_clips_survive_a_kill(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from engine.jobs.manifest import ManifestWriter
writer = ManifestWriter(Path(sys.argv[1]), "v1.0", {})
for clip in range(10_000):
    temporary = writer.clip_path(clip).with_suffix(".part")
    temporary.write_bytes(b"%d" % clip)
    writer.commit(clip, temporary, frames=1, seconds=1, fps=1, sha256="")
    print(clip, flush=True)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    said = [child.stdout.readline() for _ in range(5)]
    os.kill(child.pid, signal.SIGKILL)
    rest, _ = child.communicate(timeout=30)
    told = len([line for line in b"".join([*said, rest]).splitlines() if line])
    assert told >= 5
    assert len(read_manifest(tmp_path).whole()) >= told
    json.loads((tmp_path / "manifest.json").read_text())


def test_where_do_files_lie(tmp_path: Path) -> None:
    places = Places.of({"AVATOP_STATE_DIR": str(tmp_path), "AVATOP_CACHE_DIR": f"{tmp_path}/c"})
    job = places.job(7)
    job.create()
    assert job.segments.is_dir()
    assert job.folder.stat().st_mode & 0o077 == 0
    assert places.database == tmp_path / "jobs.sqlite3"
    assert places.output_of(7, "/a/voice.wav", None) == tmp_path / "outputs" / "voice-job7.mp4"
    assert places.output_of(7, "/a/voice.wav", str(tmp_path)) == tmp_path / "voice.mp4"
    assert places.output_of(7, "/a/voice.wav", "/b/x.mp4") == Path("/b/x.mp4")
    assert Places.of({}).state.name == "avatop"
