"""What a rule says may be done: triage's remedies by their names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from engine.messages import Remedy


@cache
def remedies_named(names: tuple[str, ...]) -> tuple[Remedy, ...]:
    """The remedies of these names; unknown ones are left out."""
    if not names:
        return ()
    # Imported on use: hundreds of patterns are compiled, which nobody waits for while all is well.
    from engine.nightwatch.words import remedy_of
    from engine.triage.catalogue import catalogue

    known = catalogue().remedies
    return tuple(remedy_of(known[name]) for name in names if name in known)


def unknown_remedies(names: Iterable[str]) -> list[str]:
    """Names that triage has no remedy for."""
    from engine.triage.catalogue import catalogue

    known = catalogue().remedies
    return [name for name in names if name not in known]
