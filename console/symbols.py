"""Whether the terminal shows more than ASCII. Without Textual: every verb asks."""

from __future__ import annotations

import locale
from collections.abc import Mapping


def shows_unicode(environ: Mapping[str, str], encoding: str | None = None) -> bool:
    """Whether braille and symbols can be shown: UTF-8, and not the Linux console or a dumb one.

    ``AVATOP_ASCII=1`` says no by hand.
    """
    if environ.get("AVATOP_ASCII", "") not in ("", "0"):
        return False
    if environ.get("TERM", "") in ("linux", "dumb"):
        return False
    found = encoding or locale.nl_langinfo(locale.CODESET)
    return found.lower().replace("-", "") == "utf8"
