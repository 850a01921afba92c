"""Ranks without an engine: forks of one process that has loaded what they need."""

from __future__ import annotations

import multiprocessing
from typing import Any

#: FSDP's first call imports the compiler, which takes a rank longer than its work here; random
#: numbers are numpy's. The last one is ours: it keeps what the others loaded from being copied in
#: every fork.
_LOADED = [
    "engine.ranks.onrank.job",
    "torch.distributed.fsdp",
    "torch._dynamo",
    "numpy.random",
    "tests.frozen",
]


def forks() -> Any:
    """A context of ``multiprocessing`` whose processes start with torch in place."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    return context
