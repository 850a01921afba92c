"""Looks for NaN and infinity in stored tensors, streamed, by their bits."""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.checkpoint.header import TensorInfo
from engine.sentence import sentence

_CHUNK: Final = 16_777_216  # bytes held at once
#: Bits that are all set exactly in NaN and infinity.
_EXPONENT: Final = {"BF16": 0x7F80, "F16": 0x7C00, "F32": 0x7F800000}


def first_bad_value(info: TensorInfo) -> str | None:
    """``"element 17 is NaN or infinite"``, or ``None``; only floats of 16 and 32 bits are read."""
    mask = _EXPONENT.get(info.dtype)
    if mask is None:
        return None
    kind = np.dtype("<u4" if info.dtype == "F32" else "<u2")
    with open(info.file, "rb") as file:  # noqa: PTH123 - a path as text
        file.seek(info.offset)
        left, seen = info.bytes, 0
        while left > 0:
            raw = file.read(min(_CHUNK, left))
            if not raw:
                return None  # the header's check tells a truncated file
            values = np.frombuffer(raw, kind)
            bad = (values & kind.type(mask)) == mask
            if bad.any():
                return sentence("element {seen} is NaN or infinite", seen=seen + int(bad.argmax()))
            left, seen = left - len(raw), seen + len(values)
    return None
