"""Speech features to the audio of every video frame.

wav2vec2 gives 50 features a second. They are resampled to 30, and each video frame takes the one
nearest to its time. The frames are dealt out in whole clips; past the sound's end they hear zeros.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

#: Features per second from the speech encoder, and after resampling.
SPEECH_RATE = 50
BUCKET_RATE = 30


def resample(features: Tensor) -> Tensor:
    """50 → 30 features a second, linear, first and last kept in place.

    Args:
        features: ``[layers, T50, dim]``.

    Returns:
        ``[layers, int(T50 / 50 · 30), dim]``, same dtype, computed in float32.

    Raises:
        ValueError: too short for one feature at 30 Hz.
    """
    # This order of float operations is the reference's: it decides where the count rounds down.
    count = int(features.shape[1] / SPEECH_RATE * BUCKET_RATE)
    if count < 1:
        raise ValueError(f"{features.shape[1]} speech features give no frame at {BUCKET_RATE} Hz")
    out = F.interpolate(features.float().mT, size=count, mode="linear", align_corners=True)
    return out.mT.to(features.dtype)


def clips(features: int, fps: int, infer_frames: int, *, drop_silent_tail: bool = True) -> int:
    """Clips of ``infer_frames`` that ``features`` at 30 Hz reach into.

    The reference always adds a clip after the last whole one. Where the sound ends on its border
    no frame of that clip hears anything; ``drop_silent_tail`` leaves it out.
    """
    count = int(features / (infer_frames * (BUCKET_RATE / fps))) + 1
    first_of_last = indices(count * infer_frames, fps)[-infer_frames]
    return count - 1 if drop_silent_tail and first_of_last >= features else count


def indices(frames: int, fps: int) -> NDArray[np.int64]:
    """Feature at 30 Hz of each of ``frames`` video frames ``[frames]``, halves to even.

    Times are a float64 ``linspace`` without its end: ties depend on that.
    """
    times = np.linspace(0.0, frames / fps, frames, endpoint=False)
    return np.round(times * BUCKET_RATE).astype(np.int64)


def bucket(
    features: Tensor, *, fps: int, infer_frames: int, m: int = 0, drop_silent_tail: bool = True
) -> Tensor:
    """Features of every frame of every clip.

    Args:
        features: at 30 Hz, ``[layers, T, dim]``.
        m: neighbours on each side, ``int(30 / fps)`` features apart and held at the ends, put
            behind one another on the feature axis.

    Returns:
        ``[1, layers, dim · (2m + 1), N]``, N = clips · ``infer_frames``: what a block's work item
        takes 12 frames of. Frames past the sound's end are zeros.

    Raises:
        ValueError: no features, or a setting that is not positive.
    """
    length = features.shape[1]
    if length < 1 or fps < 1 or infer_frames < 1 or m < 0:
        raise ValueError(f"cannot cut {length} features at {fps} fps by {infer_frames} frames")
    count = clips(length, fps, infer_frames, drop_silent_tail=drop_silent_tail)
    chosen = indices(count * infer_frames, fps)
    offsets = np.arange(-m, m + 1) * int(BUCKET_RATE / fps)
    window = np.clip(chosen[:, None] + offsets[None, :], 0, length - 1)  # [N, 2m + 1]
    silent = torch.from_numpy(chosen >= length).to(features.device)
    taken = features[:, torch.from_numpy(window).to(features.device)]  # [layers, N, 2m+1, dim]
    taken = taken.flatten(2).masked_fill(silent[:, None], 0.0)
    return taken.mT.unsqueeze(0).contiguous()


def rows(features: list[Tensor]) -> Tensor:
    """Several speakers' buckets ``[1, layers, dim, N]`` → ``[A, layers, dim, shortest N]``."""
    shortest = min(row.shape[-1] for row in features)
    return torch.cat([row[..., :shortest] for row in features])
