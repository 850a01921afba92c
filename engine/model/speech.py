"""Speech to features: the hidden states of wav2vec2, 50 per second.

The encoder is transformers' ``Wav2Vec2Model``, built from a configuration and tensors under the
released checkpoints' names; tensors of training heads are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:  # slow to import: only who builds an encoder does
    from transformers import Wav2Vec2Model

#: Samples per second of the waveforms.
SAMPLE_RATE = 16_000

_PREFIX = "wav2vec2."
_POSITIONS = "encoder.pos_conv_embed.conv"
#: Names of the positional convolution's magnitude and direction, released and newer.
_FACTORS = (
    (f"{_POSITIONS}.weight_g", f"{_POSITIONS}.weight_v"),
    (
        f"{_POSITIONS}.parametrizations.weight.original0",
        f"{_POSITIONS}.parametrizations.weight.original1",
    ),
)
#: Only training masks its input with this.
_TRAINING_ONLY = "masked_spec_embed"
_HEADS = ("lm_head.", "quantizer.", "project_hid.", "project_q.", "projector.", "classifier.")


def normalise(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Zero mean and unit variance over the whole waveform, as wav2vec2 was trained."""
    samples = np.asarray(waveform, dtype=np.float32)
    scaled = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return np.asarray(scaled, dtype=np.float32)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released checkpoint's tensors under ``Wav2Vec2Model``'s names, heads left out.

    The positional convolution's weight is multiplied out of magnitude and direction (over the
    kernel's positions) in float32: ``g · v / ‖v‖``.
    """
    if any(name.startswith(_PREFIX) for name in state):
        kept = {n.removeprefix(_PREFIX): t for n, t in state.items() if n.startswith(_PREFIX)}
    else:
        kept = {n: t for n, t in state.items() if not n.startswith(_HEADS)}
    kept.pop(_TRAINING_ONLY, None)
    for magnitude, direction in _FACTORS:
        if magnitude in kept and direction in kept:
            g, v = kept.pop(magnitude), kept.pop(direction)
            norm = torch.linalg.vector_norm(v, dim=(0, 1), keepdim=True, dtype=torch.float32)
            kept[f"{_POSITIONS}.weight"] = (v.float() * (g.float() / norm)).to(v.dtype)
    return kept


class SpeechEncoder(nn.Module):
    """wav2vec2 without heads."""

    def __init__(self, model: Wav2Vec2Model) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)

    @classmethod
    def from_state_dict(
        cls,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        *,
        dtype: torch.dtype | None = None,
    ) -> SpeechEncoder:
        """Build around a released checkpoint's tensors, on the device they are on.

        Args:
            config: its ``config.json``.
            dtype: of the weights and the arithmetic; None keeps the tensors'.

        Raises:
            ValueError: tensors are missing, unknown or of another shape than ``config`` says.
        """
        settings = {k: v for k, v in config.items() if not k.startswith("_")}
        # Nothing is masked when nothing is trained; the whole file is attended to at once, so
        # attention must not keep its scores.
        settings |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
        settings |= {"apply_spec_augment": False, "attn_implementation": "sdpa"}
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        with torch.device("meta"):
            model = Wav2Vec2Model(Wav2Vec2Config(**settings))
            # A plain convolution in place of one that multiplies its weight out on every call.
            embed = model.encoder.pos_conv_embed
            embed.conv = nn.Conv1d(
                embed.conv.in_channels,
                embed.conv.out_channels,
                embed.conv.kernel_size,
                padding=embed.conv.padding,
                groups=embed.conv.groups,
            )
        weights = renamed({name: tensor.detach().to(dtype=dtype) for name, tensor in state.items()})
        try:
            model.load_state_dict(weights, strict=True, assign=True)
        except RuntimeError as error:
            raise ValueError(f"wav2vec2: {error}") from None
        return cls(model)

    @torch.no_grad()
    def encode(self, waveform: NDArray[np.float32]) -> Tensor:
        """All hidden states of a waveform.

        Args:
            waveform: float32 ``[samples]``, mono, 16 kHz.

        Returns:
            ``[layers + 1, T50, dim]`` in the weights' dtype. State n is the n-th layer's input;
            the last one is the encoder's output, after its final norm.

        Raises:
            ValueError: not one channel, not finite, or too short for a single feature.
        """
        if waveform.ndim != 1:
            raise ValueError(f"the waveform must be mono [samples], not {list(waveform.shape)}")
        if not np.isfinite(waveform).all():
            raise ValueError("the waveform has samples that are not finite")
        if len(waveform) < self.shortest:
            raise ValueError(
                f"{len(waveform)} samples are too few: one feature takes {self.shortest} at 16 kHz"
            )
        first = next(self.model.parameters())
        samples = torch.from_numpy(normalise(waveform)).to(first.device, first.dtype)
        states: list[Tensor] = []
        with ExitStack() as hooks:
            for layer in self.model.encoder.layers:

                def keep(_layer: nn.Module, args: tuple[Any, ...]) -> None:
                    states.append(args[0][0])

                hooks.callback(layer.register_forward_pre_hook(keep).remove)
            states.append(self.model(samples.unsqueeze(0)).last_hidden_state[0])
        return torch.stack(states)

    @property
    def shortest(self) -> int:
        """Samples of the shortest waveform that gives a feature."""
        config: Any = self.model.config
        samples = 1
        for kernel, stride in zip(
            reversed(config.conv_kernel), reversed(config.conv_stride), strict=True
        ):
            samples = (samples - 1) * stride + kernel
        return samples
