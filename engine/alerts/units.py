"""Units in rules: durations such as ``2m``, bytes such as ``20GiB``, and how figures are shown."""

from __future__ import annotations

import re
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
#: Units a figure in a condition may carry, beside durations.
UNITS: Final = {
    "%": 1.0,
    "°C": 1.0,
    "C": 1.0,
    "W": 1.0,
    "fps": 1.0,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "TiB": 2.0**40,
    "GB": 1e9,
}


def duration_seconds(text: str) -> float | None:
    """Seconds of ``90s``, ``2m``, ``1h30m``, ``0s``; None for anything else."""
    text = text.strip()
    parts = list(_DURATION.finditer(text))
    if not parts or "".join(p[0] for p in parts) != text:
        return None
    return sum(float(p[1]) * _SECONDS[p[2]] for p in parts)


def duration_text(seconds: float) -> str:
    """``90`` → ``1m30s``: the shortest exact form, as Prometheus reads it too."""
    left, text = round(seconds * 1000), ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def figure(value: float | None, unit: str) -> str:
    """A figure for a person: ``92.3 %``, ``1.2 GiB``, ``12.5 s``, ``n/a``."""
    if value is None:
        return "n/a"
    if unit == "bytes":
        for name in ("TiB", "GiB", "MiB", "KiB"):
            if abs(value) >= UNITS[name]:
                return f"{value / UNITS[name]:.1f} {name}"
        return f"{value:.0f} bytes"
    text = f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}" if unit else text
