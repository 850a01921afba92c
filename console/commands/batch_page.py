"""A batch's report for a terminal: the page, and three plots drawn with plotext."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from console import format as fmt
from engine.batch.report import as_markdown

_ANSI: Final = re.compile(r"\x1b\[[0-9;]*m")
#: Most bars that one plot holds; beyond that the slowest, slowest-going, largest are shown.
_BARS: Final = 16
_WIDEST: Final = 100


def page(
    report: Mapping[str, Any],
    earlier: Mapping[str, Any] | None = None,
    colours: bool = False,
    columns: int | None = None,
) -> str:
    """The whole report as text, its plots as wide as the terminal or as ``columns``."""
    width = min(_WIDEST, columns or shutil.get_terminal_size((80, 24)).columns)
    made = [item for item in report["items"] if item["state"] == "done"]
    plots = [
        _bars("seconds of work per item", made, lambda i: i["seconds"], width, max, colours),
        _bars("frames per second per item", made, lambda i: i["fps"], width, min, colours),
        _bars("peak GiB per item", made, _peak, width, max, colours),
    ]
    text = [fmt.inert(line) for line in as_markdown(report, earlier).splitlines()]
    return "\n".join([*text, *(plot for plot in plots if plot)])


def _peak(item: Mapping[str, Any]) -> float | None:
    count = item["peak_bytes"]
    return None if count is None else count / 2**30


def _bars(
    title: str,
    items: Sequence[Mapping[str, Any]],
    value: Callable[[Mapping[str, Any]], float | None],
    width: int,
    worst: Callable[..., Any],
    colours: bool,
) -> str:
    """Items as bars in their order; the worst where there are too many."""
    found = [(fmt.inert(str(i["name"]))[:20], v) for i in items if (v := value(i)) is not None]
    if len(found) < 2:
        return ""  # one bar tells nothing that the table does not
    if len(found) > _BARS:
        ordered = sorted(found, key=lambda entry: entry[1], reverse=worst is max)[:_BARS]
        found = [entry for entry in found if entry in ordered][:_BARS]
        title += f" (the {_BARS} {'highest' if worst is max else 'lowest'})"
    import plotext

    plotext.terminal.limit(False, False)  # the size is ours, not that of file descriptor 1
    figure: Any = plotext.figure
    figure.clear()
    figure.plot_size(width, 2 * len(found) + 3)
    names, heights = [n for n, _ in reversed(found)], [v for _, v in reversed(found)]
    figure.draw(figure.bar(names, heights, orientation="horizontal", width=0.5))
    figure.ruler("x").lim(0, max(heights) * 1.05)
    figure.title(title)
    text = str(figure.build().string())
    figure.clear()
    return text if colours else _ANSI.sub("", text)
