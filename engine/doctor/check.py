"""One thing that was looked at, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

OK: Final = "ok"
WARN: Final = "warn"  # works, but something will be missing or may fail later
FAIL: Final = "fail"  # something that avatop needs does not work
NA: Final = "n/a"  # does not apply here, or cannot be told


@dataclass(frozen=True)
class Check:
    """A result.

    Args:
        area: terminal | gpu | limits | session | files | extras.
        name: unique within its area.
        state: one of the four words above.
        said: what was found, a sentence or a figure.
        todo: what to do; empty where nothing is to be done.
    """

    area: str
    name: str
    state: str
    said: str
    todo: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def healthy(checks: Iterable[Check]) -> bool:
    """Whether nothing that is needed is broken."""
    return all(check.state != FAIL for check in checks)
