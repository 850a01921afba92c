"""What is wrong, in a row or a few: the gravest alert or cause, and the next key.

No row is taken while all is well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.strip import Strip

from console import actions
from console import format as fmt
from console.i18n import n, t
from console.spoken import spoken
from console.state import Model
from console.trouble import gravity
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from engine.messages import AlertChanged, FindingRaised

ROWS: Final = 4  # at most, on large screens


class Alarm(Lines):
    """Causes first, then firing alerts; each a sentence."""

    SHOWS = frozenset({"alerts", "findings"})

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        wrong = trouble(self.model)
        keymap = self.console_app.keymap
        pages = {page.name: page.key for page in self.console_app.pages}
        read_only = self.console_app.read_only
        ack = "" if read_only else keymap.key_of("overview.acknowledge")
        alerts = (one for one in wrong if isinstance(one, AlertChanged))
        loud = next(alerts, wrong[0] if wrong else None)
        lines = []
        for at, one in enumerate(wrong[:height]):
            right = self.paint.row(width)
            if one is loud and ack:
                right.put(ack, "key").put(f" {t('acknowledge')}  ", "soft")
            if at == 0 and "incidents" in pages:
                key = keymap.shown(next(a for a in actions.ACTIONS if a.name == "go('incidents')"))
                right.put(key, "key").put(f" {t('incidents')}  ", "soft")
            if at == height - 1 and len(wrong) > height:
                more = len(wrong) - height
                right.put(n("{count} more", "{count} more", more), "state.watch").put(" ")
            lines.append(line(self.paint, self.model, one, right, width).strip())
        return lines

    def rows_wanted(self) -> int:
        return min(len(trouble(self.model)), ROWS)


def trouble(model: Model) -> list[AlertChanged | FindingRaised]:
    """What asks for eyes: root causes of what is graver than advice, then firing alerts."""
    causes = [
        finding for finding in model.trouble.open_findings()
        if finding.role == "root" and gravity(finding.severity) < gravity("advice")
    ]  # fmt: skip
    return [*causes, *model.trouble.firing()]


def line(
    paint: Paint, model: Model, one: AlertChanged | FindingRaised, right: Row, width: int
) -> Row:
    """One alert or finding as a row: sign, time, what, where; keys at the right."""
    grave = gravity(one.severity) <= gravity("error")
    role = "state.act" if grave else "state.watch"
    row = paint.row(width)
    row.put(" ✗ " if isinstance(one, FindingRaised) else " ⚠ ", role)
    row.put(fmt.moment(one.t, model.now), "faint").put("  ")
    room = width - row.x - right.x - 2
    if isinstance(one, FindingRaised):
        job = t("job {id}", id=one.job) + t(": ") if one.job is not None else ""
        text, name = job + spoken(one.cause, model), one.finding
    else:
        text, name = spoken(one.message, model) or one.rule, one.rule
    tail = f"  ({name})"
    if fmt.cells(text) + fmt.cells(tail) > room:
        tail = ""
    row.outside(fmt.short(fmt.inert(text), max(room - fmt.cells(tail), 4)), role)
    return row.outside(tail, "faint").right(right)
