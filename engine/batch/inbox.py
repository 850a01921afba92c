"""An inbox: pairs that appear while a batch runs, each once it is whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from watchfiles import awatch

from engine.batch.pairs import Pair, PairError, pair_up
from engine.batch.spec import BatchSpec
from engine.media.audio import load_mono16k
from engine.media.findings import MediaError
from engine.media.image import load_rgb

_Stamp = tuple[tuple[int, int], tuple[int, int]]


async def new_pairs(
    spec: BatchSpec,
    known: Callable[[], set[str]],
    stop: asyncio.Event,
    log: Callable[[str, str], None],
) -> AsyncIterator[tuple[Pair, ...]]:
    """Pairs whose names are not known, as they become whole, until ``stop`` is set.

    Whole: both files kept size and time for ``settle_seconds`` and decode to their end. One that
    does not is told once, and looked at again when it changes.
    """
    seen: dict[str, tuple[_Stamp, float]] = {}
    refused: dict[str, _Stamp] = {}
    tick = max(50, round(spec.settle_seconds * 500))
    folders = {spec.audio_dir, spec.image_dir}
    manifest = Path(spec.manifest) if spec.manifest else None
    # A tick comes without a change, too: what was copied before the watch began settles as well.
    async for _ in awatch(
        *folders, stop_event=stop, rust_timeout=tick, yield_on_timeout=True, recursive=False
    ):
        try:
            found = await asyncio.to_thread(
                pair_up, Path(spec.audio_dir), Path(spec.image_dir), manifest
            )
        except PairError as error:
            log("WARNING", f"the inbox cannot be read: {error}")
            continue
        names, fresh = known(), []
        for pair in found.pairs:
            if pair.name in names:
                continue
            stamp = _stamp(pair)
            if stamp is None or refused.get(pair.name) == stamp:
                continue
            before = seen.get(pair.name)
            if before is None or before[0] != stamp:
                seen[pair.name] = (stamp, time.monotonic())
            elif time.monotonic() - before[1] >= spec.settle_seconds:
                why = await asyncio.to_thread(not_whole, pair)
                if why is None:
                    fresh.append(pair)
                else:
                    refused[pair.name] = stamp
                    log("WARNING", f"{pair.name} is not whole, it waits for a change: {why}")
        if fresh:
            yield tuple(fresh)


def not_whole(pair: Pair) -> str | None:
    """Why a pair cannot be used as it is; None if both files decode to their end. Blocks."""
    try:
        load_rgb(pair.image)
        load_mono16k(pair.audio)
    except MediaError as error:
        return str(error)
    return None


def _stamp(pair: Pair) -> _Stamp | None:
    try:
        audio, image = pair.audio.stat(), pair.image.stat()
    except OSError:
        return None  # gone again
    return (audio.st_size, audio.st_mtime_ns), (image.st_size, image.st_mtime_ns)
