"""When Python looks for garbage: not before the first picture, afterwards seldom and briefly.

A search through everything takes about 50 ms once Textual is loaded, and a key pressed meanwhile
waits for it.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 10_000  # objects made before the youngest are looked through
ROUNDS: Final = 20  # rounds of one age before the next older one


def none() -> None:
    """No search until ``seldom``: what is imported stays anyhow."""
    gc.disable()


def seldom() -> None:
    """From now on; what is there already is not looked through again."""
    gc.freeze()
    gc.set_threshold(YOUNG, ROUNDS, ROUNDS)
    gc.enable()
