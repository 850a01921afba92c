"""One clip into one video-only file with closed GOPs, so that clips join without re-encoding."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from engine.media.findings import MediaError
from engine.media.stats import FrameStats, StatsCounter
from engine.sentence import sentence

#: Ending of a file that is still being written or not yet committed.
PART: Final = ".part"
#: H.264 where it is built in, else MPEG-4: both come with every PyAV wheel that has an encoder.
_ENCODERS: Final = ("libx264", "libopenh264", "mpeg4")
_BT709 = 1  # AVCOL_PRI_BT709, AVCOL_TRC_BT709 and AVCOL_SPC_BT709 share the number
_LIMITED = 1  # AVCOL_RANGE_MPEG


@dataclass(frozen=True)
class SegmentInfo:
    """A written segment: ``path`` is the temporary name it lies under until it is committed."""

    path: Path
    frames: int
    bytes: int
    sha256: str
    stats: FrameStats


class SegmentWriter:
    """Encodes uint8 frames ``[n, H, W, 3]`` (RGB) into ``<path>.part``, an MP4.

    One thread, no B-frames, a key frame at the start and every second, no look-ahead into other
    segments: the same frames give the same bytes, and segments can be put end to end.
    The final name never holds a half-written file: ``close`` leaves a whole, fsynced ``.part``
    for the manifest to rename, ``abort`` (or an exception in a ``with`` block) removes it.

    Raises:
        MediaError: odd or empty sizes, frames of another shape, no encoder, a full disk.
    """

    def __init__(self, path: Path, width: int, height: int, fps: int) -> None:
        if width <= 0 or height <= 0 or width % 2 or height % 2:
            raise MediaError(
                sentence(
                    "cannot encode {width}x{height} frames: both sides must be even and above 0",
                    width=width,
                    height=height,
                )
            )
        if fps <= 0:
            raise MediaError(sentence("cannot encode {fps} frames a second", fps=fps))
        self.temporary = path.with_name(path.name + PART)
        self.width, self.height, self.fps = width, height, fps
        self._counter = StatsCounter()
        self._frames = 0
        self._open = True
        try:
            self.temporary.touch()  # PyAV opens the file at the first packet; fail now instead
            self._container = av.open(str(self.temporary), "w", format="mp4")
        except (OSError, av.error.FFmpegError) as error:
            raise MediaError(
                sentence("cannot write {temporary}: {error}", temporary=self.temporary, error=error)
            ) from error
        try:
            self._stream = self._encoder()
        except (MediaError, ValueError, av.error.FFmpegError) as error:
            self.abort()
            raise MediaError(
                sentence(
                    "no encoder takes {width}x{height} frames: {error}",
                    width=width,
                    height=height,
                    error=error,
                )
            ) from error

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Append frames, uint8 ``[n, H, W, 3]``."""
        expected = (self.height, self.width, 3)
        if frames.ndim != 4 or frames.shape[1:] != expected or frames.dtype != np.uint8:
            raise MediaError(
                sentence(
                    "expected uint8 frames [n, {height}, {width}, 3], got {dtype} {shape}",
                    height=self.height,
                    width=self.width,
                    dtype=frames.dtype,
                    shape=str(list(frames.shape)),
                )
            )
        try:
            for pixels in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame = picture.reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                )
                frame.pts = self._frames
                frame.time_base = Fraction(1, self.fps)
                self._counter.add(luma_plane(frame))
                self._container.mux(self._stream.encode(frame))
                self._frames += 1
        except (OSError, av.error.FFmpegError) as error:
            self.abort()
            raise MediaError(
                sentence(
                    "writing {temporary} failed: {error}", temporary=self.temporary, error=error
                )
            ) from error

    def close(self) -> SegmentInfo:
        """Finish the file, fsync it and tell what it holds.

        Raises:
            MediaError: no frame was written, or the file could not be finished.
        """
        if not self._frames:
            self.abort()
            raise MediaError(
                sentence("no frame was written to {temporary}", temporary=self.temporary)
            )
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._open = False
            digest = fsync_and_hash(self.temporary)
            size = self.temporary.stat().st_size
        except (OSError, av.error.FFmpegError) as error:
            self.abort()
            raise MediaError(
                sentence(
                    "finishing {temporary} failed: {error}", temporary=self.temporary, error=error
                )
            ) from error
        return SegmentInfo(self.temporary, self._frames, size, digest, self._counter.stats)

    def abort(self) -> None:
        """Give up and leave nothing behind. Safe to call twice."""
        if self._open:
            self._open = False
            # The file is thrown away just below, so a failing trailer does not matter.
            with contextlib.suppress(OSError, av.error.FFmpegError):
                self._container.close()
        self.temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None or self._open:
            self.abort()

    def _encoder(self) -> Any:
        for name in _ENCODERS:
            if name in av.codecs_available:
                break
        else:
            raise MediaError(sentence("PyAV has no video encoder; install the av wheel from PyPI"))
        stream = self._container.add_stream(name, rate=self.fps)
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
        stream.time_base = Fraction(1, self.fps)
        context = stream.codec_context
        context.time_base = Fraction(1, self.fps)
        context.gop_size = self.fps
        context.max_b_frames = 0
        context.thread_count = 1
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED
        if name == "libx264":
            stream.options = {
                "preset": "veryfast",
                "crf": "17",
                "x264-params": "open-gop=0:scenecut=0:bframes=0:threads=1:sliced-threads=0",
            }
        else:
            context.bit_rate = max(500_000, self.width * self.height * self.fps // 4)
        return stream


def luma_plane(frame: Any) -> NDArray[np.uint8]:
    """The Y plane of a yuv420p frame, uint8 [H, W], without its padding."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]


def fsync_and_hash(path: Path) -> str:
    """Flush a file to disk; its SHA-256 in hex."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fsync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
