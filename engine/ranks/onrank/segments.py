"""The encoder's thread of a rank: frames in, one finished segment file per clip out.

Encoding happens off the device's path. The queue is short, so a slow disk slows the job down
instead of filling memory; what the thread dies of is raised where the next frames are put.
"""

from __future__ import annotations

import base64
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.media.check import check_frames
from engine.media.segment import SegmentWriter

#: Blocks of frames that may wait for the encoder.
QUEUE_BLOCKS: Final = 4
#: Largest preview, width × height in pixels.
PREVIEW: Final = (64, 40)

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class ClipWritten:
    """One clip's segment under its temporary name; fields of a ``clip`` report."""

    clip: int
    frames: int
    seconds: float
    path: str
    sha256: str
    check: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "check": list(self.check)}


@dataclass(frozen=True)
class _EndOfClip:
    clip: int
    seconds: float
    nan: bool


class _Abort:
    """Throw away the clip in progress and end."""


def segment_name(clip: int) -> str:
    """Name of a clip's file once it is committed."""
    return f"clip_{clip:04d}.mp4"


class SegmentThread:
    """Encodes blocks of frames in order; leave it by ``with``: without an error it waits.

    Args:
        on_clip: called on the encoder's thread for every finished segment.
        first: the first clip that will come.

    Raises (from ``put``, ``end_clip`` and leaving):
        MediaError: a segment could not be written.
    """

    def __init__(
        self,
        folder: Path,
        width: int,
        height: int,
        fps: int,
        on_clip: Callable[[ClipWritten], None],
        first: int = 0,
    ) -> None:
        self._folder, self._size, self._fps = folder, (width, height), fps
        self._on_clip = on_clip
        self._clip = first
        self._queue: queue.Queue[Frames | _EndOfClip | _Abort | None] = queue.Queue(QUEUE_BLOCKS)
        self._error: BaseException | None = None
        self._failed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="avatop-encoder", daemon=True)
        self._thread.start()

    def put(self, frames: Frames) -> None:
        """Append frames ``[n, H, W, 3]`` to the clip in progress; waits when the queue is full."""
        self._put(frames)

    def end_clip(self, clip: int, seconds: float, *, nan: bool) -> None:
        """Close the clip's segment. ``seconds`` is what its frames took, ``nan`` what was seen."""
        self._put(_EndOfClip(clip, seconds, nan))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._put(None)
            self._thread.join()
            self._check()
        elif not self._failed.is_set():
            self._put(_Abort())
            self._thread.join()

    def _put(self, work: Frames | _EndOfClip | _Abort | None) -> None:
        while True:
            self._check()
            try:
                self._queue.put(work, timeout=0.2)  # wakes up to notice a dead thread
                return
            except queue.Full:
                continue

    def _check(self) -> None:
        if self._failed.is_set() and self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while self._encode_clip():
                pass
        except BaseException as error:  # noqa: BLE001 - raised again where frames are put
            self._error = error
            self._failed.set()

    def _encode_clip(self) -> bool:
        """One segment. False when nothing follows."""
        first = self._queue.get()
        if not isinstance(first, np.ndarray):
            if isinstance(first, _EndOfClip):
                raise ValueError(f"clip {first.clip + 1} ended without a frame")
            return False
        path = self._folder / segment_name(self._clip)
        # The context throws the file away if anything goes wrong before it is closed.
        with SegmentWriter(path, *self._size, self._fps) as writer:
            work: Frames | _EndOfClip | _Abort | None = first
            while isinstance(work, np.ndarray):
                writer.write(work)
                work = self._queue.get()
            if not isinstance(work, _EndOfClip):
                return False  # cut off within a clip
            info = writer.close()
        findings = check_frames(info.stats, self._fps, nan=work.nan, subject=path.name)
        self._on_clip(
            ClipWritten(
                clip=work.clip,
                frames=info.frames,
                seconds=work.seconds,
                path=str(info.path),
                sha256=info.sha256,
                check=tuple(finding.to_dict() for finding in findings),
            )
        )
        self._clip = work.clip + 1
        return True


def preview(frame: Frames) -> dict[str, Any]:
    """Preview fields of a ``block`` report from one frame ``[H, W, 3]``."""
    picture = Image.fromarray(frame)
    picture.thumbnail(PREVIEW, Image.Resampling.BOX)
    return {
        "preview_width": picture.width,
        "preview_height": picture.height,
        "preview_rgb": base64.b64encode(picture.tobytes()).decode(),
    }
