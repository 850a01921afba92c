"""Is a clip's file whole, alone decodable, repeatable, and never half there?"""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from engine.media.check import check_frames, check_segment
from engine.media.findings import MediaError
from engine.media.segment import SegmentWriter
from tests.media.makers import FPS, HEIGHT, WIDTH, noise, number_of, numbered, segment


def test_does_every_frame_come_out_in_order(tmp_path: Path) -> None:
    path = segment(tmp_path / "clip.mp4", numbered(3, 45))
    with av.open(str(path)) as container:
        numbers = [number_of(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    assert numbers == list(range(3, 48))


def test_is_it_video_only_with_closed_gops_and_no_reordering(tmp_path: Path) -> None:
    path = segment(tmp_path / "clip.mp4", noise(48))
    with av.open(str(path)) as container:
        assert [s.type for s in container.streams] == ["video"]
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == FPS
        packets = [p for p in container.demux(stream) if p.size]
    assert len(packets) == 48
    assert all(p.pts == p.dts for p in packets)
    assert [n for n, p in enumerate(packets) if p.is_keyframe] == [0, 25]


def test_do_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        with SegmentWriter(tmp_path / f"{name}.mp4", WIDTH, HEIGHT, FPS) as writer:
            for part in np.array_split(noise(24), 2 if name == "a" else 5):
                writer.write(part)
            info = writer.close()
        digests.add(info.sha256)
        assert info.sha256 == hashlib.sha256(info.path.read_bytes()).hexdigest()
        assert info.bytes == info.path.stat().st_size
        assert info.frames == info.stats.frames == 24
    assert len(digests) == 1


def test_is_nothing_under_the_final_name_before_it_is_committed(tmp_path: Path) -> None:
    final = tmp_path / "clip.mp4"
    writer = SegmentWriter(final, WIDTH, HEIGHT, FPS)
    writer.write(noise(3))
    assert not final.exists()
    assert writer.close().path.name == "clip.mp4.part"
    assert not final.exists()


def test_does_an_interrupted_write_leave_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with SegmentWriter(tmp_path / "clip.mp4", WIDTH, HEIGHT, FPS) as writer:
            writer.write(noise(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(0, 64), (65, 64), (64, 63), (-2, 64)])
def test_are_odd_and_empty_sizes_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(MediaError, match="both sides must be even"):
        SegmentWriter(tmp_path / "clip.mp4", *size, FPS)
    assert list(tmp_path.iterdir()) == []


def test_are_wrong_frames_and_no_frames_refused(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "clip.mp4", WIDTH, HEIGHT, FPS)
    with pytest.raises(MediaError, match="expected uint8 frames"):
        writer.write(noise(1, width=64))
    with pytest.raises(MediaError, match="no frame was written"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_where_can_it_not_write(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot write"):
        SegmentWriter(tmp_path / "nowhere" / "clip.mp4", WIDTH, HEIGHT, FPS)


def test_is_noise_good_and_black_or_frozen_video_not(tmp_path: Path) -> None:
    good = check_segment(segment(tmp_path / "noise.mp4", noise(48)), 48)
    assert (good.frames, good.findings) == (48, ())
    black = check_segment(segment(tmp_path / "black.mp4", noise(48) // 40), 48)
    assert ("error", "black") in {(f.level, f.kind) for f in black.findings}
    frozen = check_segment(
        segment(tmp_path / "frozen.mp4", np.repeat(numbered(85, 1), 48, axis=0)), 48
    )
    assert [f.kind for f in frozen.findings] == ["frozen"]
    short = check_segment(segment(tmp_path / "short.mp4", noise(45)), 48)
    assert [f.kind for f in short.findings] == ["frame_count"]


def test_do_the_counts_made_while_encoding_say_the_same(tmp_path: Path) -> None:
    video = noise(48)
    video[10:40] = video[10]
    with SegmentWriter(tmp_path / "clip.mp4", WIDTH, HEIGHT, FPS) as writer:
        writer.write(video)
        stats = writer.close().stats
    assert (stats.frozen, stats.frozen_run, stats.black) == (29, 29, 0)
    kinds = [(f.level, f.kind) for f in check_frames(stats, nan=True)]
    assert kinds == [("error", "nan"), ("warning", "frozen")]


def test_is_a_damaged_segment_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(segment(tmp_path / "whole.mp4", noise(48)).read_bytes()[:5000])
    (finding,) = check_segment(path, 48).findings
    assert (finding.level, finding.kind) == ("error", "unplayable")
