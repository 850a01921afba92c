"""Sizes, token counts, clips in an audio length, predicted frames: pure arithmetic.

The numbers follow the reference: ``size`` names an area which is snapped to multiples of 64 by
the portrait's aspect; audio is counted in wav2vec2 frames (50 Hz), resampled to 30 Hz, and cut
into clips of ``infer_frames`` video frames. Nothing here reads a file.
"""

from __future__ import annotations

import math
from typing import Final

from engine.plain import Plain, late_dataclass
from engine.sentence import sentence

#: Pixels per latent cell in space, pixel frames per latent frame in time, tokens per two cells.
SPATIAL_STRIDE: Final = 8
TEMPORAL_STRIDE: Final = 4
PATCH: Final = 2
#: Every side of an output frame is a multiple of this.
SIZE_MULTIPLE: Final = 64
#: Latent and pixel frames per block, the unit of streaming.
BLOCK_LATENTS: Final = 3
BLOCK_FRAMES: Final = BLOCK_LATENTS * TEMPORAL_STRIDE
#: The rolling KV cache's length in latent frames, whatever ``infer_frames`` is.
RING_LATENTS: Final = 12
#: Video frames the streaming decoder swallows before the file's first frame.
DROPPED_FRAMES: Final = 3
#: Video frames per second where the checkpoint does not say otherwise (``sample_fps``).
DEFAULT_FPS: Final = 25
AUDIO_RATE: Final = 16_000

_FEATURE_RATE = 50  # wav2vec2 frames per second, nominally
_BUCKET_RATE = 30  # audio features per second after resampling
# (kernel, stride) of the seven convolutions of every released wav2vec2.
_WAV2VEC_CONVS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))


def snap_size(area_w: int, area_h: int, image_w: int, image_h: int) -> tuple[int, int]:
    """The output frame for an area and a portrait: ``(width, height)`` in pixels.

    The portrait is scaled (never up) until its sides, each padded up to a multiple of 64, fit
    the area; of 101 scales from the largest down the first that fits wins. Where none does, its
    sides are floored to 64, first at the area's scale and then as they are.

    Raises:
        ValueError: a side that is not positive, or an area under 64*64.
    """
    if min(area_w, area_h, image_w, image_h) <= 0:
        raise ValueError(sentence("sizes must be positive"))
    area = area_w * area_h
    if area < SIZE_MULTIPLE**2:
        raise ValueError(
            sentence(
                "an area of {area_w}*{area_h} is under {size_multiple}*{size_multiple}",
                area_w=area_w,
                area_h=area_h,
                size_multiple=SIZE_MULTIPLE,
            )
        )
    pixels = image_w * image_h
    if pixels <= area:
        top, bottom = 1.0, 0.1
    else:
        pad = SIZE_MULTIPLE - 1
        b = pad * (image_h + image_w)
        c = pad * pad - area
        top = math.sqrt(area / pixels)
        # "2ac", not "4ac": the reference's own quadratic, which its sizes depend on.
        bottom = (-b + math.sqrt(b * b - 2 * pixels * c)) / (2 * pixels)
    for n in range(101):
        scale = top - (top - bottom) * n / 100
        height, width = _up64(int(image_h * scale)), _up64(int(image_w * scale))
        if height * width <= area and height and width:
            return width, height
    ratio = image_w / image_h
    height, width = int(math.sqrt(area / ratio)), int(math.sqrt(area * ratio))
    height, width = _down64(height), _down64(width)
    if not height or not width or height * width > area:
        width, height = max(SIZE_MULTIPLE, width), max(SIZE_MULTIPLE, height)
        # A strip thinner than one multiple: keep the thin side, shorten the long one.
        if width > height:
            width = _down64(area // height)
        else:
            height = _down64(area // width)
    return width, height


def _up64(value: int) -> int:
    return -(-value // SIZE_MULTIPLE) * SIZE_MULTIPLE


def _down64(value: int) -> int:
    return value // SIZE_MULTIPLE * SIZE_MULTIPLE


@late_dataclass(frozen=True)
class FrameGeometry(Plain):
    """Latent dimensions and token counts of one frame size."""

    width: int
    height: int

    def __post_init__(self) -> None:
        step = SPATIAL_STRIDE * PATCH
        if self.width < step or self.height < step or self.width % step or self.height % step:
            raise ValueError(
                sentence(
                    "{width}*{height} is no frame size: sides must be multiples of {step}",
                    width=self.width,
                    height=self.height,
                    step=step,
                )
            )

    @property
    def latent_width(self) -> int:
        return self.width // SPATIAL_STRIDE

    @property
    def latent_height(self) -> int:
        return self.height // SPATIAL_STRIDE

    @property
    def tokens_per_frame(self) -> int:
        """Tokens of one latent frame."""
        return (self.latent_width // PATCH) * (self.latent_height // PATCH)

    @property
    def tokens_per_block(self) -> int:
        return BLOCK_LATENTS * self.tokens_per_frame

    @property
    def ring_tokens(self) -> int:
        """Capacity of one rolling KV cache."""
        return RING_LATENTS * self.tokens_per_frame

    @property
    def conditioning_tokens(self) -> int:
        """Reference frame, then motion latents packed 1, 2 and 16 frames at a time."""
        h, w = self.latent_height, self.latent_width
        return 2 * self.tokens_per_frame + (h // 4) * (w // 4) + 4 * (h // 8) * (w // 8)


def latent_frames(infer_frames: int) -> int:
    """Latent frames of one clip of ``infer_frames`` pixel frames (a multiple of 12)."""
    return infer_frames // TEMPORAL_STRIDE


def blocks_per_clip(infer_frames: int) -> int:
    """Blocks of one clip."""
    return infer_frames // BLOCK_FRAMES


def wav2vec_frames(samples: int) -> int:
    """wav2vec2 frames of ``samples`` at 16 kHz (0 when too short for one)."""
    frames = samples
    for kernel, stride in _WAV2VEC_CONVS:
        if frames < kernel:
            return 0
        frames = (frames - kernel) // stride + 1
    return frames


def clips_in_audio(samples: int, infer_frames: int, fps: int = DEFAULT_FPS) -> int:
    """Whole or begun clips that ``samples`` of 16 kHz audio carry; 0 when there is no sound."""
    features = int(wav2vec_frames(samples) / _FEATURE_RATE * _BUCKET_RATE)
    return clips_of_features(features, infer_frames, fps)


def clips_of_features(features: int, infer_frames: int, fps: int = DEFAULT_FPS) -> int:
    """Clips that ``features`` audio features at 30 Hz carry.

    The reference's bucket count, without the extra clip it makes when the audio ends exactly on
    a clip's border: that clip would hear zeros only.
    """
    clips = int(features / (infer_frames * (_BUCKET_RATE / fps))) + 1
    frames = clips * infer_frames
    step = (frames / fps) / frames
    first_heard = round((clips - 1) * infer_frames * step * _BUCKET_RATE)
    return clips - 1 if first_heard >= features else clips


def predicted_frames(num_clip: int, audio_clips: int, infer_frames: int) -> int:
    """Frames of the file: ``infer_frames`` × min(asked, in the audio) − 3."""
    return max(0, infer_frames * min(num_clip, audio_clips) - DROPPED_FRAMES)


@late_dataclass(frozen=True)
class Forecast(Plain):
    """What a request will give, as far as arithmetic can tell."""

    width: int
    height: int
    clips: int
    clips_asked: int
    clips_in_audio: int
    frames: int
    fps: int
    seconds: float
    remarks: tuple[str, ...]

    @property
    def size(self) -> str:
        return f"{self.width}*{self.height}"


def forecast(
    *,
    size: str,
    image_wh: tuple[int, int],
    audio_samples: int,
    num_clip: int,
    infer_frames: int,
    fps: int = DEFAULT_FPS,
) -> Forecast:
    """Size, clips, frames and seconds of a request, with what its reader should be told.

    Args:
        size: normalised ``W*H``. image_wh: the portrait's pixels. audio_samples: at 16 kHz.
    """
    area_w, area_h = (int(part) for part in size.split("*"))
    width, height = snap_size(area_w, area_h, *image_wh)
    heard = clips_in_audio(audio_samples, infer_frames, fps)
    clips = min(num_clip, heard)
    frames = predicted_frames(num_clip, heard, infer_frames)
    remarks = []
    if (width, height) != (area_w, area_h):
        remarks.append(
            sentence(
                "size {size} names an area; with the portrait's {image_w}x{image_h} "
                "it runs as {width}*{height}.",
                size=size,
                image_w=image_wh[0],
                image_h=image_wh[1],
                width=width,
                height=height,
            )
        )
    if heard < num_clip:
        remarks.append(
            sentence(
                "The audio ends first: it fills {heard} of the {num_clip} clips asked "
                "for, so the video has {frames} frames, {seconds:.2f} s at {fps} fps.",
                heard=heard,
                num_clip=num_clip,
                frames=frames,
                seconds=frames / fps,
                fps=fps,
            )
        )
    return Forecast(
        width=width,
        height=height,
        clips=clips,
        clips_asked=num_clip,
        clips_in_audio=heard,
        frames=frames,
        fps=fps,
        seconds=frames / fps,
        remarks=tuple(remarks),
    )
