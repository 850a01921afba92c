"""Whether this environment may only look."""

from __future__ import annotations

from collections.abc import Mapping


def read_only(env: Mapping[str, str]) -> bool:
    """Whether nothing may be changed from here (``AVATOP_READ_ONLY``)."""
    return env.get("AVATOP_READ_ONLY", "").strip().lower() in {"1", "true", "yes", "on"}
