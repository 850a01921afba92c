"""Numbers, states and untrusted text as the console writes them. Pure functions, no Textual.

Three significant digits, the unit apart from the figure so that it can be dimmed, ``n/a`` where a
thing is unknown (never 0). A state is a shape, a word and a colour role, with an ASCII twin.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from typing import Final

from rich.cells import cached_cell_len, cell_len, set_cell_size

from console.i18n import N_, t
from engine.plain import Plain, late_dataclass

NA: Final = "n/a"
GIB: Final = 1 << 30


@late_dataclass(frozen=True)
class State(Plain):
    """How one state of a job, a rank or a remark is shown."""

    shape: str
    ascii: str
    word: str
    role: str  # colour role of the theme


STATES: Final[dict[str, State]] = {
    # jobs
    "queued": State("○", ".", N_("queued"), "state.idle"),
    "preflight": State("◐", "~", N_("preflight"), "state.busy"),
    "loading": State("◐", "~", N_("loading"), "state.busy"),
    "running": State("●", "*", N_("running"), "state.good"),
    "decoding": State("●", "*", N_("decoding"), "state.good"),
    "paused": State("‖", "|", N_("paused"), "state.watch"),
    "done": State("✓", "+", N_("done"), "state.good"),
    "cancelled": State("⊘", "0", N_("cancelled"), "state.idle"),
    "interrupted": State("↻", "=", N_("interrupted"), "state.watch"),
    "failed": State("✗", "x", N_("failed"), "state.act"),
    # ranks
    "spawned": State("◐", "~", N_("starting"), "state.busy"),
    "encoding": State("◐", "~", N_("encoding"), "state.busy"),
    "idle": State("·", "-", N_("idle"), "state.idle"),
    "ended": State("✓", "+", N_("ended"), "state.idle"),
    "died": State("✗", "x", N_("died"), "state.act"),
    # devices
    "drained": State("⊘", "0", N_("drained"), "state.watch"),
    # items of a batch
    "waiting": State("○", ".", N_("waiting"), "state.idle"),
    "preparing": State("◐", "~", N_("preparing"), "state.busy"),
    "verifying": State("◐", "~", N_("verifying"), "state.busy"),
    "alias": State("≡", "=", N_("twin"), "state.idle"),
    "quarantined": State("⊘", "0", N_("quarantined"), "state.act"),
    # batches
    "stopped": State("⊘", "0", N_("stopped"), "state.watch"),
    # releases
    "validating": State("◐", "~", N_("validating"), "state.busy"),
    "rolling": State("●", "*", N_("rolling"), "state.good"),
    "promoted": State("✓", "+", N_("promoted"), "state.good"),
    "rolled_back": State("↻", "=", N_("rolled back"), "state.act"),
    "aborted": State("✗", "x", N_("aborted"), "state.act"),
    # verdicts of gates
    "PASS": State("✓", "+", "PASS", "state.good"),
    "FAIL": State("✗", "x", "FAIL", "state.act"),
    "INCONCLUSIVE": State("◐", "~", "INCONCLUSIVE", "state.watch"),
    "ERROR": State("✗", "x", "ERROR", "state.act"),
    # alerts
    "pending": State("○", ".", N_("pending"), "state.idle"),
    "firing": State("⚠", "!", N_("firing"), "state.act"),
    "acknowledged": State("✓", "+", N_("acknowledged"), "state.watch"),
    "silenced": State("‖", "|", N_("silenced"), "state.idle"),
    "resolved": State("✓", "+", N_("resolved"), "state.good"),
    # remarks
    "warning": State("⚠", "!", N_("warning"), "state.watch"),
    "spike": State("▲", "^", N_("spike"), "spike"),
}
_UNKNOWN: Final = State("?", "?", N_("unknown"), "state.watch")


def state(name: str) -> State:
    """The look of a state; a name from a newer engine is shown as it is, with a question mark."""
    known = STATES.get(name)
    return known if known else State(_UNKNOWN.shape, _UNKNOWN.ascii, inert(name), _UNKNOWN.role)


def word(name: str) -> str:
    """A state's word in the console's language."""
    return t(state(name).word)


def significant(value: float) -> str:
    """Three significant digits without an exponent up to a million: 0.26, 61.2, 141, 1,230."""
    if math.isnan(value) or math.isinf(value):
        return NA
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 999.5:
        return f"{value:,.0f}"
    if size >= 99.95:
        return f"{value:.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    if size >= 0.995:
        return f"{value:.2f}"
    digits = min(2 - math.floor(math.log10(size)), 5)
    text = f"{value:.{digits}f}".rstrip("0")
    return "0" if text in ("0.", "-0.") else text


def gib(count: int | float | None) -> str:
    """Bytes as GiB without the unit, for columns and pairs such as ``61.2 / 141 GiB``.

    Below a hundredth of a GiB two decimals are kept, so that columns stay narrow.
    """
    if count is None:
        return NA
    value = count / GIB
    if 0 < abs(value) < 0.995:
        return f"{value:.2f}" if abs(value) >= 0.005 else f"{value:.3f}"
    return significant(value)


def size(count: int | None) -> tuple[str, str]:
    """Figure and unit of bytes that may be few: 13.4 KiB."""
    for unit, scale in (("GiB", GIB), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count is None or count >= 0.1 * scale:
            return number(None if count is None else count / scale, unit)
    return str(count), "B  "


def number(value: float | None, unit: str) -> tuple[str, str]:
    """Figure and unit of a reading; the unit is empty where there is no reading."""
    return (NA, "") if value is None else (significant(value), unit)


def whole(value: float | None, unit: str) -> tuple[str, str]:
    """Like :func:`number` for readings whose fractions mean nothing: degrees, watts, percent."""
    if value is None or not math.isfinite(value):
        return NA, ""
    return f"{value:,.0f}", unit


def duration(seconds: float | None) -> str:
    """A length of time as a person reads it: 0.26 s, 42 s, 1:34, 2:05:10, 3 d 4 h."""
    if seconds is None or math.isnan(seconds) or math.isinf(seconds):
        return NA
    if seconds < 10:
        return f"{significant(max(seconds, 0.0))} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def clock(t: float) -> str:
    """Local wall-clock time, HH:MM:SS."""
    return time.strftime("%H:%M:%S", time.localtime(t))


def moment(t: float, now: float) -> str:
    """Local wall-clock time; of another day MM-DD HH:MM."""
    there = time.localtime(t)
    today = there[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M:%S" if today else "%m-%d %H:%M", there)


def fraction(part: int | None, whole: int | None) -> str:
    """Progress such as 12/50; 0 of an unknown whole is 12/?."""
    if part is None:
        return NA
    return f"{part}/{whole if whole else '?'}"


def mode(name: str, ranks: int, variant: str = "") -> str:
    """A mode with its number of ranks: ``tpp×4``, ``tpp ring×2``, ``single``."""
    full = f"{name} {variant}".strip()
    return f"{full}×{ranks}" if ranks > 1 else full


def plural(count: int, noun: str) -> str:
    """ "1 job", "2 jobs"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


# ---------------------------------------------------------------------------------------------
# Text from outside


def _pictures() -> dict[int, str]:
    table = {code: chr(0x2400 + code) for code in range(0x20)}
    table[0x7F] = "\u2421"
    # C1 controls act as escape sequences on some terminals; bidirectional and zero-width format
    # characters let a line look like another one.
    for code in (*range(0x80, 0xA0), 0x61C, *range(0x200B, 0x2010), *range(0x2028, 0x202F)):
        table[code] = "\u00b7"
    for code in (*range(0x2060, 0x2070), 0xFEFF, 0xAD, 0x180E, *range(0xFFF9, 0xFFFC)):
        table[code] = "\u00b7"
    for code in range(0xE0000, 0xE0080):  # tags: a hidden text within a text
        table[code] = "\u00b7"
    # Terminals disagree on how wide a variation selector makes the character before it.
    for code in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)):
        table[code] = ""
    table[0x09] = "    "
    return table


_PICTURES: Final = _pictures()
LONGEST: Final = 4000  # characters of one outside line that are kept for the screen


def inert(text: str, limit: int = LONGEST) -> str:
    """Text from outside made harmless: every control character becomes a visible sign.

    Nothing in the result moves a cursor, changes a colour or reorders its neighbours. Lines over
    ``limit`` characters are cut and say so.
    """
    if len(text) > limit:
        text = f"{text[:limit]} … [{len(text) - limit:,} more characters]"
    if text.isascii() and text.isprintable():
        return text
    text = text.translate(_PICTURES)
    # Lone surrogates (undecodable bytes) and private or unassigned planes cannot be encoded safely.
    return "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)


def plain(text: str) -> str:
    """The same for a terminal without UTF-8: everything outside ASCII is written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if " " <= c <= "~" else _TWINS[c] if c in _TWINS else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "replace").decode()


_TWINS: Final = {
    "…": "...", "·": "-", "×": "x", "→": "->", "–": "-", "—": "-", "°": "", "▲": "^",
    "█": "#", "▏": "_", "┈": ".", "─": "-", "│": "|", "▌": ">", "↑": "^", "↓": "v", "←": "<",
    "▸": ">", "◂": "<", "◀": "<", "↳": ">", "┤": "|", "├": "|", "└": "+", "┬": "+", "┴": "+",
    "▕": "[", "▁": ".", "▂": ".", "▃": ":", "▄": ":", "▅": "+", "▆": "+", "▇": "#", "▔": "-",
    "✓": "+", "✗": "x", "●": "*", "◐": "~", "○": ".", "↻": "=", "⊘": "0", "‖": "|",
    "⚠": "!", "≡": "=", "↵": "Enter", "⏎": "Enter", "’": "'",
}  # fmt: skip


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """Exactly ``width`` cells: cut with an ellipsis or padded; wide characters measured."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length == width:
        return text
    if length < width:
        return text + " " * (width - length)
    if width <= len(ellipsis):
        return set_cell_size(text, width)
    kept = set_cell_size(text, width - len(ellipsis)).rstrip() + ellipsis
    return kept + " " * (width - cell_len(kept))


def cells(text: str) -> int:
    """Cells a text takes; wide characters count two."""
    if text.isascii():
        return len(text)
    return cached_cell_len(text) if len(text) < 512 else cell_len(text)


def short(text: str, width: int, ellipsis: str = "…") -> str:
    """At most ``width`` cells: cut with an ellipsis where it is longer, never padded."""
    return text if cells(text) <= width else fit(text, width, ellipsis).rstrip()


def right(text: str, width: int) -> str:
    """Padded on the left to ``width`` cells."""
    return " " * (width - cells(text)) + text


def fit_left(text: str, width: int, ellipsis: str = "…") -> str:
    """Like :func:`fit`, but keeps the end (file names matter more than folders)."""
    if cell_len(text) <= width:
        return fit(text, width)
    kept = text
    while kept and cell_len(kept) > width - len(ellipsis):
        kept = kept[1:]
    return fit(ellipsis + kept, width)


#: What of a word may stand on a line by itself: each ideograph with the brackets and points that
#: belong to it, which neither end a line nor begin one (W3C's clreq, 3.1.3); all else whole.
_PIECES: Final = (
    r"[（《「『【“‘]*(?:[\u2e80-\u2fff\u3005-\u3007\u3040-\u9fff\uac00-\ud7a3\uf900-\ufaff]"
    r"|[^\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef“‘”’]+|.)"
    r"[，。；：！？、）》」』】”’…]*"
)


def _words(text: str) -> Iterator[tuple[str, str]]:
    """Pieces between which a line may end, each with what stands between it and the one before."""
    for word in text.split():
        if word.isascii():
            yield " ", word
            continue
        gap = " "
        for piece in re.findall(_PIECES, word):
            yield gap, piece
            gap = ""


def wrap(text: str, width: int) -> list[str]:
    """Words laid into lines of at most ``width`` cells; a longer word is broken.

    Chinese has no gaps between its words: a line ends after any character of it.
    """
    width = max(width, 1)
    lines: list[str] = []
    line = ""
    for gap, word in _words(text):
        while cell_len(word) > width:
            head = set_cell_size(word, width).rstrip() or word[0]  # a wide one in one cell
            if line:
                lines.append(line)
                line = ""
            lines.append(head)
            word = word[len(head) :]
        joined = f"{line}{gap}{word}" if line else word
        if cell_len(joined) <= width:
            line = joined
        else:
            lines.append(line)
            line = word
    return [*lines, line] if line or not lines else lines
