"""Every key of the console, one module per page or part: data, no drawing.

A module has ``ACTIONS``, ``SCOPES`` (scope → title in the help) and, where a number key opens it,
``PAGE``. A page is added by its line in ``MODULES``; the order is that of the help screen.
"""

from __future__ import annotations

from typing import Final

MODULES: Final = (
    "common",
    "overview",
    "logs",
    "jobs",
    "tune",
    "processes",
    "table",
    "log",
    "history",
    "batch",
    "release",
    "incidents",
    "recordings",
    "checkpoint",
    "replay",
)
