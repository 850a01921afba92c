"""What becomes of finished blocks on the VAE's rank: hashed, decoded, previewed, encoded."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.ranks.onrank.observer import RankObserver
from engine.ranks.onrank.segments import SegmentThread, preview
from engine.ranks.onrank.video import BlockDecoder


class Sink:
    """Takes blocks in order. Memory stays flat however long the video, unless latents are dumped.

    Args:
        vae_bytes: of the VAE's weights, for the books.
        began: ``time.perf_counter()`` at the job's start in this rank.
        dump: file for all final latents, or None.
    """

    def __init__(
        self,
        decoder: BlockDecoder,
        segments: SegmentThread,
        observer: RankObserver,
        *,
        blocks_per_clip: int,
        vae_bytes: int,
        began: float,
        dump: str | None,
    ) -> None:
        self._decoder, self._segments, self._observer = decoder, segments, observer
        self._per_clip, self._vae_bytes, self._began = blocks_per_clip, vae_bytes, began
        self._dump, self._kept = dump, list[Tensor]()
        self._hash = hashlib.sha256()
        self._nan = False
        self._block_began = self._clip_began = time.perf_counter()
        self._clip_frames = 0
        self.blocks = self.frames = 0
        self.first_frame_seconds: float | None = None
        self.clips: list[dict[str, Any]] = []

    def take(self, block: int, latent: Tensor) -> None:
        """One final latent ``[16,3,h,w]``.

        Raises:
            MediaError: a segment could not be written.
        """
        exact = latent.detach().float().cpu().contiguous()
        self._hash.update(exact.numpy().astype("<f4", copy=False).tobytes())
        self._nan |= not bool(torch.isfinite(exact).all())
        if self._dump is not None:
            self._kept.append(exact)
        with self._observer.window(f"block {block}", "vae"):
            frames = self._decoder.decode(latent)
        self._observer.ledger.book("vae", self._vae_bytes + self._decoder.nbytes)
        now = time.perf_counter()
        if self.first_frame_seconds is None:
            self.first_frame_seconds = now - self._began
        self._segments.put(frames)
        self.blocks += 1
        self.frames += len(frames)
        self._clip_frames += len(frames)
        self._observer.report.send(
            "block",
            clip=block // self._per_clip,
            block=block,
            seconds=now - self._block_began,
            **preview(frames[-1]),
        )
        self._block_began = now
        if self.blocks % self._per_clip == 0:
            self._end_clip(block // self._per_clip, now)

    def _end_clip(self, clip: int, now: float) -> None:
        seconds = now - self._clip_began
        self._segments.end_clip(clip, seconds, nan=self._nan)
        fps = self._clip_frames / seconds if seconds > 0 else None
        self.clips.append({"clip": clip, "seconds": seconds, "fps": fps})
        self._clip_began, self._clip_frames, self._nan = now, 0, False

    def finish(self) -> dict[str, Any]:
        """Write the dump, if one was asked for; this rank's part of the ``result`` report."""
        if self._dump is not None and self._kept:
            target = Path(self._dump)
            target.parent.mkdir(parents=True, exist_ok=True)
            # [blocks, 16, 3, h, w]: its bytes are those that were hashed.
            save_file({"latents": torch.stack(self._kept)}, target)
        return {
            "latents_sha256": self._hash.hexdigest(),
            "first_frame_seconds": self.first_frame_seconds,
            "frames": self.frames,
            "clips": self.clips,
            "dump": self._dump if self._kept else None,
        }
