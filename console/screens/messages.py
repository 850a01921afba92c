"""The message history: every sentence the console has said in its footer, newest first."""

from __future__ import annotations

from collections.abc import Sequence

from textual.strip import Strip

from console import format as fmt
from console.i18n import t
from console.notices import Notices
from console.screens.help import Scrolled, ScrolledLines
from console.state import Model
from console.widgets.paint import Paint


class MessagesBody(ScrolledLines):
    def __init__(self, model: Model, paint: Paint, notices: Notices) -> None:
        super().__init__(model, paint)
        self.notices = notices

    def heading(self) -> tuple[str, str]:
        return t("Messages"), t("what the console has said, newest first")

    def content(self, width: int) -> Sequence[Strip]:
        lines = []
        for notice in reversed(self.notices.said):
            of = "" if notice.shown is None else t("recording {time}", time=fmt.clock(notice.shown))
            room = width - 14 - (fmt.cells(of) + 2 if of else 0)
            parts = fmt.wrap(fmt.inert(notice.text), max(room, 10))
            for at, part in enumerate(parts):
                row = self.paint.row(width).put("  ")
                row.put(fmt.clock(notice.t) if at == 0 else " " * 8, "faint").put("  ")
                if of:
                    row.put(of if at == 0 else " " * fmt.cells(of), "match").put("  ")
                lines.append(row.outside(part, notice.role).strip())
        if not lines:
            row = self.paint.row(width).put("  ")
            lines.append(row.put(t("Nothing was said yet."), "soft").strip())
        return lines


class Messages(Scrolled):
    def __init__(self, model: Model, paint: Paint, notices: Notices) -> None:
        super().__init__(MessagesBody(model, paint, notices))
