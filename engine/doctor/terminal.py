"""The terminal: what it can show, how large it is, what stands between it and the program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import psutil

from engine.doctor.check import NA, OK, WARN, Check
from engine.sentence import sentence

AREA: Final = "terminal"
#: The smallest and the intended size: columns, rows.
LEAST: Final = (80, 24)
#: Characters of which a font may lack some; columns must stand one below the other.
PATTERN: Final = ("⣀⣄⣤⣦⣶⣷⣿⡇ ▁▂▃▄▅▆▇█", "12345678 12345678", "● ◐ ○ ✓ ✗ ⚠ ▲ ‖ × →")


@dataclass(frozen=True)
class Terminal:
    """What is known of it.

    Args:
        unicode: whether the console will show more than ASCII there.
        size: columns and rows; None without a terminal.
        ancestors: names of the programs above this one, the nearest first.
    """

    environ: Mapping[str, str]
    unicode: bool
    size: tuple[int, int] | None
    ancestors: tuple[str, ...] = ()


def ancestors() -> tuple[str, ...]:
    """Names of the programs above this one, as far as they may be seen."""
    try:
        return tuple(parent.name() for parent in psutil.Process().parents())
    except psutil.Error:
        return ()


def checks(seen: Terminal) -> Iterator[Check]:
    """All of them."""
    if seen.size is None:
        yield Check(
            AREA, "terminal", NA, sentence("no terminal: the console needs one, other verbs do not")
        )
        return
    yield _term(seen)
    yield _colours(seen)
    yield _characters(seen)
    yield _font(seen)
    yield _size(seen.size)
    yield _between(seen)


def _term(seen: Terminal) -> Check:
    term = seen.environ.get("TERM", "")
    if not term or term == "dumb":
        return Check(
            AREA,
            "TERM",
            WARN,
            sentence("TERM is {term}", term=term or "not set"),
            sentence("export TERM=xterm-256color, if the terminal is one of today's"),
        )
    return Check(AREA, "TERM", OK, term)


def _colours(seen: Terminal) -> Check:
    env, term = seen.environ, seen.environ.get("TERM", "")
    if env.get("NO_COLOR"):
        return Check(
            AREA, "colours", OK, sentence("NO_COLOR is set: shapes and words carry the state")
        )
    if env.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return Check(AREA, "colours", OK, "16 million")
    if "256" in term:
        return Check(
            AREA,
            "colours",
            OK,
            sentence("256; nearest ones are taken"),
            sentence("if the terminal knows more: export COLORTERM=truecolor"),
        )
    return Check(
        AREA,
        "colours",
        WARN,
        sentence("16: the console uses its theme for them"),
        sentence("export TERM=xterm-256color, if the terminal knows it"),
    )


def _characters(seen: Terminal) -> Check:
    if seen.unicode:
        return Check(AREA, "characters", OK, "UTF-8")
    if seen.environ.get("AVATOP_ASCII", "") not in ("", "0"):
        return Check(AREA, "characters", OK, sentence("ASCII, as AVATOP_ASCII asks for"))
    if seen.environ.get("TERM") == "linux":
        return Check(
            AREA,
            "characters",
            WARN,
            sentence("the Linux console shows no braille: ASCII is drawn"),
            sentence("connect with a terminal emulator for plots in full"),
        )
    return Check(
        AREA,
        "characters",
        WARN,
        sentence("the locale is not UTF-8: ASCII is drawn"),
        "export LANG=C.UTF-8",
    )


def _font(seen: Terminal) -> Check:
    if not seen.unicode:
        return Check(AREA, "font", NA, sentence("nothing beyond ASCII is drawn"))
    return Check(
        AREA,
        "font",
        NA,
        sentence("only eyes can tell: signs must stand above their digits"),
        "where boxes or gaps show: a font with braille (DejaVu Sans Mono), ambiguous width "
        "narrow, or export AVATOP_ASCII=1",
    )


def _size(size: tuple[int, int]) -> Check:
    said = f"{size[0]} × {size[1]}"
    if size[0] < LEAST[0] or size[1] < LEAST[1]:
        todo = sentence(
            "make it at least {columns} × {rows}: parts are cut below that",
            columns=LEAST[0],
            rows=LEAST[1],
        )
        return Check(AREA, "size", WARN, said, todo)
    return Check(AREA, "size", OK, said)


def _between(seen: Terminal) -> Check:
    """tmux, screen, mosh, ssh: what survives a lost connection."""
    env = seen.environ
    if "mosh-server" in seen.ancestors:
        return Check(
            AREA,
            "connection",
            OK,
            sentence("mosh: survives a lost connection, copying does not reach the clipboard"),
        )
    if env.get("TMUX"):
        if env.get("TERM", "").startswith(("tmux", "screen")):
            return Check(AREA, "connection", OK, sentence("tmux: survives a lost connection"))
        todo = sentence('in tmux: set -g default-terminal "tmux-256color"')
        return Check(
            AREA, "connection", WARN, sentence("tmux, with TERM={term}", term=env.get("TERM")), todo
        )
    if env.get("STY"):
        return Check(
            AREA,
            "connection",
            OK,
            sentence("screen: survives a lost connection"),
            sentence("tmux passes on more colours"),
        )
    if env.get("SSH_CONNECTION") or env.get("SSH_TTY"):
        return Check(
            AREA,
            "connection",
            OK,
            sentence("ssh: when it drops, the engine works on"),
            sentence("come back with: avatop attach"),
        )
    return Check(AREA, "connection", OK, "local")
