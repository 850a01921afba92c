"""A batch's report, read from the store on a thread and shown as a page that scrolls."""

from __future__ import annotations

from collections.abc import Sequence

from textual.strip import Strip

from console import format as fmt
from console.i18n import t
from console.screens.help import ScrolledLines
from console.state import Model
from console.widgets.paint import Paint


def read_report(batch: str, columns: int) -> str:
    """The page that ``avatop batch report`` prints; works while the batch runs, too.

    Raises:
        LookupError: this host's store knows no such batch.
        click.ClickException: the store cannot be read.
    """
    from console.commands.batch_follow import stored
    from console.commands.batch_page import page
    from engine.batch import report

    with stored() as found:
        row = found.batch(batch) if found else None
        if found is None or row is None:
            raise LookupError(batch)
        body = report.build(found, row)
    return page(body, columns=columns)


class ReportBody(ScrolledLines):
    """The text of a report; long lines go on in the next, tables keep their columns."""

    def __init__(self, model: Model, paint: Paint, name: str, text: str) -> None:
        super().__init__(model, paint)
        self.name_of_batch = name
        self.text = text

    def heading(self) -> tuple[str, str]:
        return t("Report"), fmt.inert(self.name_of_batch)

    def content(self, width: int) -> Sequence[Strip]:
        out: list[Strip] = []
        for line in self.text.splitlines():
            head = line.startswith("#")
            role = "title" if head else "text"
            cut = line.lstrip("# ") if head else line
            parts = [cut] if _drawn(cut) else fmt.wrap(cut, max(width - 4, 20))
            out += [self.paint.row(width).put("  ").outside(p, role).strip() for p in parts]
        return out


def _drawn(line: str) -> bool:
    """Whether a line is part of a plot, whose cells must stay where they are."""
    return any("\u2500" <= c <= "\u259f" for c in line) or line.startswith("  ")
