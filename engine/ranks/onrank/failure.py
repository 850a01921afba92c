"""What kind of failure an exception is, in the words of the ``failed`` report."""

from __future__ import annotations

import errno
from typing import Final

import torch
import torch.distributed as dist

KINDS: Final = ("oom", "bad_checkpoint", "bad_input", "comm", "disk", "other")

# Libraries that raise plain RuntimeError, told apart by words of their messages.
_COMM_WORDS: Final = ("gloo", "nccl", "tcpstore", "connection closed by peer", "process group")
_OOM_WORDS: Final = ("defaultcpuallocator: can't allocate", "not enough memory", "out of memory")

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def kind_of(error: BaseException) -> str:
    """One of ``KINDS``.

    Our own exception classes say it themselves by an attribute ``kind``. An exception that merely
    wraps another (``raise … from``) is judged by the first in the chain that tells.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        kind = _own_kind(current)
        if kind != "other":
            return kind
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return "other"


def _own_kind(error: BaseException) -> str:
    own = getattr(error, "kind", None)
    if isinstance(own, str) and own in KINDS:
        return own
    if getattr(error, "errno", None) in _DISK_FULL:  # of the system, and of FFmpeg
        return "disk"
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "oom"
    if isinstance(error, dist.DistError | ConnectionError):  # backend, store and network errors
        return "comm"
    if isinstance(error, RuntimeError):
        text = str(error).lower()
        if any(word in text for word in _OOM_WORDS):
            return "oom"
        if any(word in text for word in _COMM_WORDS):
            return "comm"
    return "other"
