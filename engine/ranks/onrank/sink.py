"""What becomes of finished blocks on the VAE's rank: hashed, decoded, previewed, encoded."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from engine.placement.onrank.clock import Clock
from engine.ranks.onrank.latentlog import LatentLog
from engine.ranks.onrank.observer import RankObserver
from engine.ranks.onrank.segments import SegmentThread, preview
from engine.ranks.onrank.video import BlockDecoder


class Sink:
    """Takes blocks in order. Memory stays flat however long the video.

    Args:
        log: keeps every final latent on disk.
        clock: of the device, for decoding alone.
        vae_bytes: of the VAE's weights, for the books.
        began: ``time.perf_counter()`` at the job's start in this rank.
        dump: file for all final latents, or None.
        committed: clips that are committed already: their blocks are hashed, and not encoded.
        decoding: the first block that the decoder has to see.
        on_boundary: told clips that are decoded, and the decoder's memory then.
        hand_over: called before and after a decode: memory goes from the walk to the VAE and back.
    """

    def __init__(
        self,
        decoder: BlockDecoder,
        segments: SegmentThread,
        observer: RankObserver,
        log: LatentLog,
        clock: Clock,
        *,
        blocks_per_clip: int,
        vae_bytes: int,
        began: float,
        dump: str | None,
        committed: int = 0,
        decoding: int = 0,
        on_boundary: Callable[[int, list[Tensor]], None] | None = None,
        hand_over: Callable[[], None] = lambda: None,
    ) -> None:
        self._decoder, self._segments, self._observer = decoder, segments, observer
        self._clock = clock
        self._log, self._first, self._decoding = log, committed * blocks_per_clip, decoding
        self._on_boundary, self._hand_over = on_boundary, hand_over
        self._per_clip, self._vae_bytes, self._began = blocks_per_clip, vae_bytes, began
        self._dump = dump
        self._hash = hashlib.sha256()
        self._nan = False
        self._block_began = self._clip_began = time.perf_counter()
        self._clip_frames = 0
        self.blocks = self.frames = 0
        self.first_frame_seconds: float | None = None
        self.clips: list[dict[str, Any]] = []

    def take(self, block: int, latent: Tensor, *, logged: bool = False) -> None:
        """One final latent ``[16,3,h,w]``; ``logged``: it was read from the log.

        Raises:
            MediaError: a segment could not be written.
        """
        if block < self._first:
            if block >= self._decoding:
                self._decode(latent)  # for its memory's sake
            self._keep(block, latent.detach().cpu(), logged)
            return
        decoding: list[float] = []
        with self._observer.window(f"block {block}", "vae"):
            # What is copied to the host waits behind the mirror's copies: decode meanwhile.
            self._clock.begin()
            pixels = self._decode(latent)
            self._clock.end(decoding.append)
            host = latent.detach().cpu()
            frames: NDArray[np.uint8] = pixels.cpu().numpy()
            self._clock.settle()  # the frames are here: nothing is left to wait for
        self._nan |= not self._keep(block, host, logged)
        self._observer.ledger.book("vae", self._vae_bytes + self._decoder.nbytes)
        now = time.perf_counter()
        if self.first_frame_seconds is None:
            self.first_frame_seconds = now - self._began
        self._segments.put(frames)
        self.frames += len(frames)
        self._clip_frames += len(frames)
        self._observer.report.send(
            "block",
            clip=block // self._per_clip,
            block=block,
            seconds=now - self._block_began,
            decode_seconds=decoding[0],
            **preview(frames[-1]),
        )
        self._block_began = now
        if (block + 1) % self._per_clip == 0:
            self._end_clip(block // self._per_clip, now)
            if self._on_boundary is not None:
                self._on_boundary(block // self._per_clip + 1, self._decoder.state)

    def _keep(self, block: int, latent: Tensor, logged: bool) -> bool:
        """Hash and log a final latent in host memory. Whether it is all numbers."""
        latent = latent.contiguous()
        exact = latent.float()
        self._hash.update(exact.numpy().astype("<f4", copy=False).tobytes())
        if not logged:
            self._log.write(block, latent)
        self.blocks += 1
        return bool(torch.isfinite(exact).all())

    def _decode(self, latent: Tensor) -> Tensor:
        self._hand_over()
        pixels = self._decoder.decode(latent)
        self._hand_over()
        return pixels

    def _end_clip(self, clip: int, now: float) -> None:
        seconds = now - self._clip_began
        self._segments.end_clip(clip, seconds, nan=self._nan)
        fps = self._clip_frames / seconds if seconds > 0 else None
        self.clips.append({"clip": clip, "seconds": seconds, "fps": fps})
        self._clip_began, self._clip_frames, self._nan = now, 0, False

    def finish(self) -> dict[str, Any]:
        """Write the dump, if one was asked for; this rank's part of the ``result`` report."""
        if self._dump is not None and self.blocks:
            target = Path(self._dump)
            target.parent.mkdir(parents=True, exist_ok=True)
            # [blocks, 16, 3, h, w]: its bytes are those that were hashed.
            kept = [self._log.read(block).float() for block in range(self.blocks)]
            save_file({"latents": torch.stack(kept)}, target)
        return {
            "latents_sha256": self._hash.hexdigest(),
            "first_frame_seconds": self.first_frame_seconds,
            "frames": self.frames,
            "clips": self.clips,
            "dump": self._dump if self.blocks else None,
        }
