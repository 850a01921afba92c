"""Where a job can go on: the newest moment of which everything needed was kept. No torch.

The ranks of a pipeline are never at the same block. So a cut names the next block of every step,
and holds only if what those need is there: the keys and values of the blocks before, of all
layers, and each latent that one step has made and the next has not used. Which rank wrote it, and
under which plan, does not matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from engine.geometry import BLOCK_LATENTS, RING_LATENTS
from engine.placement.statefile import StateFile, StateFileError

#: Blocks whose keys and values attention sees, the one in work included.
RING_BLOCKS: Final = RING_LATENTS // BLOCK_LATENTS
_SUFFIX: Final = ".safetensors"


@dataclass(frozen=True)
class Cut:
    """The next block of every step, which never rises from step to step."""

    blocks: tuple[int, ...]

    @property
    def entered(self) -> int:
        """Blocks that have begun."""
        return self.blocks[0]

    @property
    def finished(self) -> int:
        """Blocks whose final latent is known."""
        return self.blocks[-1]


def rings_name(step: int, layers: tuple[int, ...], slots: int) -> str:
    """The file of one step's keys and values of some layers, whoever has them."""
    spans: list[list[int]] = []
    for n in layers:
        if spans and spans[-1][1] == n:
            spans[-1][1] = n + 1
        else:
            spans.append([n, n + 1])
    span = "_".join(f"{first}-{end}" for first, end in spans)
    return f"kv.step{step}.layers{span}.slots{slots}{_SUFFIX}"


def latents_name(step: int) -> str:
    """The file of latents *at* ``step``: what the step before has made."""
    return f"latents.step{step}{_SUFFIX}"


def decoder_name(number: int) -> str:
    """One of the files that take turns in keeping the decoder's memory at clip boundaries."""
    return f"decoder.{number}{_SUFFIX}"


@dataclass
class Kept:
    """What the files of a folder hold: tags only."""

    #: Step → layer → the tags of each file that has it.
    rings: dict[int, dict[int, list[tuple[int, ...]]]] = field(default_factory=dict)
    latents: dict[int, frozenset[int]] = field(default_factory=dict)  # step → blocks at it
    boundaries: frozenset[int] = frozenset()  # clips after which the decoder's memory is known


def look(folder: Path) -> Kept:
    """Read the tags of every state file. What is damaged is as if it were not there."""
    kept = Kept()
    boundaries: set[int] = set()
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with contextlib.suppress(OSError, StateFileError), StateFile.open(path) as file:
            tags = file.tags
            if path.name.startswith("kv."):
                step = kept.rings.setdefault(int(file.metadata["step"]), {})
                for layer in layers_in(file):
                    step.setdefault(layer, []).append(tags)
            elif path.name.startswith("latents."):
                kept.latents[int(file.metadata["step"])] = frozenset(t for t in tags if t >= 0)
            elif path.name.startswith("decoder."):
                boundaries |= {t for t in tags if t >= 0}
    kept.boundaries = frozenset(boundaries)
    return kept


def layers_in(file: StateFile) -> tuple[int, ...]:
    """The layers that a file of keys and values holds."""
    return tuple(int(n) for n in file.metadata["layers"].split(","))


def needed(block: int) -> range:
    """Blocks whose keys and values a step needs before it can compute ``block``."""
    return range(max(0, block - RING_BLOCKS + 1), block)


def find_cut(
    kept: Kept, *, steps: int, layers: int, per_clip: int, blocks: int, logged: int
) -> Cut | None:
    """The newest cut that holds; ``None`` where only the very beginning would.

    Args:
        per_clip, blocks: of a clip, of the whole video.
        logged: final latents that are on disk, from block 0 on without a gap.
    """
    finals = kept.latents.get(steps, frozenset()) | frozenset(range(logged))

    def at_hand(step: int, first: int, end: int) -> bool:
        have = finals if step == steps else kept.latents.get(step, frozenset())
        return all(block in have for block in range(first, end))

    @cache
    def best(step: int, before: int) -> tuple[int, tuple[int, ...]] | None:
        """The highest sum of blocks for ``step`` and those after it, none above ``before``."""
        if step == steps:
            whole = before <= logged or at_hand(steps, logged, before)
            return (0, ()) if whole else None
        found: tuple[int, tuple[int, ...]] | None = None
        for block in _candidates(kept, step, layers, min(before, blocks)):
            if step and not at_hand(step, block, before):
                continue
            rest = best(step + 1, block)
            if rest is not None and (found is None or rest[0] + block > found[0]):
                found = rest[0] + block, (block, *rest[1])
        return found

    found = best(0, blocks)
    if found is None or not found[0]:
        return None
    cut = Cut(found[1])
    # A second clip's conditioning is made from block 0.
    return None if cut.entered > per_clip and not cut.finished else cut


def _candidates(kept: Kept, step: int, layers: int, most: int) -> Iterator[int]:
    """Blocks that a step could go on with, by its keys and values alone."""
    rings = kept.rings.get(step, {})
    tags = {tag for files in rings.values() for file in files for tag in file if tag >= 0}
    for block in sorted({tag + 1 for tag in tags if tag < most}, reverse=True):
        if all(
            any(all(t[b % len(t)] == b for b in needed(block)) for t in rings.get(layer, ()))
            for layer in range(layers)
        ):
            yield block
    yield 0
