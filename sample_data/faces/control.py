"""From sound to how a face moves: a fixed, local rule, so that it can be learnt exactly.

The mouth opens with the energy between 300 and 3400 Hz, which hum through closed lips (m, n, b)
has little of; it widens where the second formant is high (e, i) and rounds where it is low (o, u).
Eyes close when a phrase ends, brows rise when one begins, the head nods with the slow envelope.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RATE = 16_000
#: Controls that sound drives, the first six of ``render.CONTROLS``.
HEARD = 6
_HOP = 160
_WINDOW = 512


def _smooth(x: Tensor, seconds: float) -> Tensor:
    """Gaussian over the last axis at 100 Hz, edges repeated."""
    sigma = seconds * RATE / _HOP
    reach = math.ceil(3 * sigma)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=x.device) / sigma) ** 2)
    padded = F.pad(x[:, None], (reach, reach), mode="replicate")
    return F.conv1d(padded, (taps / taps.sum())[None, None])[:, 0]


def spectra(wave: Tensor) -> Tensor:
    """Power ``[N, bins, T100]`` of waveforms ``[N, samples]``, frames centred on k/100 s."""
    window = torch.hann_window(_WINDOW, device=wave.device)
    found = torch.stft(wave, _WINDOW, _HOP, window=window, center=True, return_complex=True)
    return found.abs().square() / window.square().sum() / (_WINDOW / 2)


def envelope(wave: Tensor) -> Tensor:
    """Amplitude in the band of speech at 100 Hz, ``[N, T100]``."""
    hertz = torch.linspace(0, RATE / 2, _WINDOW // 2 + 1, device=wave.device)
    power = spectra(wave)[:, (hertz >= 300) & (hertz <= 3400)].sum(1)
    return _smooth(power, 0.02).clamp(min=0).sqrt()


def controls(wave: Tensor) -> Tensor:
    """``[N, samples]`` of zero mean and unit variance → ``[N, T100, 6]`` at 100 Hz."""
    hertz = torch.linspace(0, RATE / 2, _WINDOW // 2 + 1, device=wave.device)
    power = spectra(wave)

    def band(low: float, high: float) -> Tensor:
        return _smooth(power[:, (hertz >= low) & (hertz < high)].sum(1), 0.03) + 1e-5

    loud = envelope(wave)
    opened = _smooth(((loud - 0.08) / 1.6).clamp(0, 1) ** 0.8, 0.025)
    ratio = torch.log(band(1500, 3400) / band(350, 1100))
    wide = _smooth(torch.tanh((ratio + 2.3) * 0.7) * (loud / 0.3).clamp(0, 1), 0.04)
    slow, slower = _smooth(opened, 0.10), _smooth(opened, 0.30)
    rate = F.pad(slow[:, 2:] - slow[:, :-2], (1, 1), mode="replicate") * 50  # per second
    blink = _smooth(((-rate - 1.2) / 0.8).clamp(0, 1), 0.03)
    brow = _smooth((rate / 2.5).clamp(-0.3, 1), 0.06) + 0.6 * (slower - 0.3)
    nod = (slower * 3 - 1).clamp(-1, 1)
    sway = _smooth(wide, 0.30).clamp(-0.5, 0.5) * 2
    return torch.stack([opened, wide, blink, brow.clamp(-1, 1), nod, sway], dim=-1)


def at_times(track: Tensor, seconds: Tensor) -> Tensor:
    """Values of ``track [N, T100, C]`` at ``seconds [n]``, linear, held at the ends."""
    place = (seconds * (RATE / _HOP)).clamp(0, track.shape[1] - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=track.shape[1] - 1)
    return torch.lerp(track[:, low], track[:, high], (place - low)[None, :, None].to(track))


def normalise(wave: Tensor) -> Tensor:
    """Zero mean and unit variance per waveform, as wav2vec2 takes them."""
    centred = wave - wave.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-7)
