"""Tracks of speech for training: sentences strung together, varied, with the controls they give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sample_data.faces import control
from sample_data.faces.speech import from_mulaw

RATE = control.RATE


class Tracks:
    """Draws waveforms ``[N, samples]`` from a pack of sentences, on one device."""

    def __init__(self, pack: Path, device: torch.device, seed: int = 0) -> None:
        held = np.load(pack)
        waves = torch.from_numpy(from_mulaw(held["codes"])).to(device)
        self.waves = list(torch.split(waves, [int(n) for n in held["lengths"]]))
        self.device = device
        self.random = np.random.default_rng(seed)

    def draw(self, count: int, seconds: float) -> Tensor:
        """Normalised waveforms."""
        need = int(seconds * RATE)
        rows = [self._one(need) for _ in range(count)]
        return control.normalise(torch.stack(rows))

    def _one(self, need: int) -> Tensor:
        r = self.random
        parts: list[Tensor] = []
        have = 0
        if r.random() < 0.6:
            parts.append(torch.zeros(int(r.uniform(0.05, 0.8) * RATE), device=self.device))
        while have < need:
            wave = self.waves[r.integers(len(self.waves))]
            rate = r.uniform(0.85, 1.18)
            wave = F.interpolate(wave[None, None], scale_factor=rate, mode="linear")[0, 0]
            wave = wave * r.uniform(0.5, 1.0)
            gap = r.uniform(0.1, 0.5) if r.random() < 0.7 else r.uniform(0.5, 1.6)
            parts += [wave, torch.zeros(int(gap * RATE), device=self.device)]
            have = sum(len(p) for p in parts)
        track = torch.cat(parts)[:need]
        if r.random() < 0.3:  # vowels that no language has
            track = track + 0.3 * self._hum(need) * (r.random() < 0.5)
        noise = 10 ** r.uniform(-4.5, -2.5)
        return track + noise * torch.randn(need, device=self.device)

    def _hum(self, need: int) -> Tensor:
        r = self.random
        t = torch.arange(need, device=self.device) / RATE
        pitch = r.uniform(90, 260)
        wave = torch.zeros(need, device=self.device)
        formants = (r.uniform(280, 850), r.uniform(800, 2500), r.uniform(2300, 3300))
        for n in range(1, 24):
            gain = sum(np.exp(-(((n * pitch - f) / 130.0) ** 2)) for f in formants)
            wave = wave + float(gain) * torch.sin(2 * np.pi * n * pitch * t)
        beat = torch.sin(2 * np.pi * r.uniform(0.6, 2.5) * t + r.uniform(0, 6)).clamp(min=0)
        return wave * beat / 3


def frame_controls(waves: Tensor, frames: int) -> Tensor:
    """``[N, frames, 7]`` at 25 a second; the smile is 0."""
    times = torch.arange(frames, device=waves.device) / 25 + 0.01
    heard = control.at_times(control.controls(waves), times)
    return F.pad(heard, (0, 1))
