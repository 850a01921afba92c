"""The console's words in a person's language, through gettext catalogues.

``t("Job {id} is queued.", id=3)`` gives the sentence in the language of the running console; the
English sentence is the key. ``n("{count} job", "{count} jobs", 2)`` is the same for counts, and
``N_("queued")`` marks a word that is translated later, where it is drawn.

The language belongs to the context that a console runs in (``use``), as Textual's own active app
does: it reaches everything the console's loop and its Textual workers run, and nothing else. A
thread of the engine sees English, so sentences are made on the console's side.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gettext import NullTranslations

DOMAIN: Final = "avatop"
#: Languages with a catalogue, and what they call themselves.
LANGUAGES: Final = {"en": "English", "zh_CN": "简体中文"}

_catalogue: ContextVar[NullTranslations | None] = ContextVar("avatop_catalogue", default=None)
_language: ContextVar[str] = ContextVar("avatop_language", default="en")


class LanguageError(ValueError):
    """A language that has no catalogue; the text says which have."""


def folder() -> Path:
    """Where the catalogues lie: ``LANGUAGE/LC_MESSAGES/avatop.po`` and ``.mo``."""
    return Path(__file__).parent / "locale"


def t(message: str, /, **values: object) -> str:
    """``message`` in the console's language, its ``{names}`` filled in."""
    catalogue = _catalogue.get()
    if catalogue is not None and message:
        message = catalogue.gettext(message)
    return message.format(**values) if values else message


def n(one: str, many: str, count: int, /, **values: object) -> str:
    """The form for ``count``, which is filled in as ``{count}`` with thousands separated."""
    catalogue = _catalogue.get()
    if catalogue is not None:
        message = catalogue.ngettext(one, many, count)
    else:
        message = one if count == 1 else many
    return message.format(count=f"{count:,}", **values)


def N_(message: str) -> str:  # noqa: N802 - gettext's own name for "translate me later"
    """Mark a message for the catalogue; it is translated where it is shown."""
    return message


def use(language: str) -> None:
    """Speak ``language`` in this context from now on.

    Raises:
        LanguageError: it has no catalogue.
    """
    if language not in LANGUAGES:
        known = ", ".join(f"{name} ({own})" for name, own in LANGUAGES.items())
        raise LanguageError(f"There is no language {language!r}; choose one of {known}.")
    _language.set(language)
    if language == "en":
        _catalogue.set(None)
        return
    import gettext

    _catalogue.set(gettext.translation(DOMAIN, folder(), [language]))


def english() -> bool:
    """Whether sentences are said as the source has them."""
    return _catalogue.get() is None


def language() -> str:
    """The language of this context."""
    return _language.get()


def messages() -> list[str]:
    """Every message that the present catalogue translates; none in English."""
    catalogue = _catalogue.get()
    # gettext gives its table of messages no public name; it has had this one since Python 2.
    known: dict[str | tuple[str, int], str] = getattr(catalogue, "_catalog", {})
    return [message for message in known if isinstance(message, str) and message]


def known(name: str) -> str | None:
    """The catalogue a locale's name means: ``zh_CN.UTF-8``, ``zh-Hans`` and ``zh`` → ``zh_CN``."""
    base = name.split(".")[0].split("@")[0].replace("-", "_")
    if base in LANGUAGES:
        return base
    tongue = base.split("_")[0].lower()
    if tongue == "zh":
        return None if base.lower() in ("zh_tw", "zh_hk", "zh_mo", "zh_hant") else "zh_CN"
    return "en" if tongue in ("en", "c", "posix") else None


def choose(asked: str | None, environ: Mapping[str, str], configured: str | None = None) -> str:
    """The language to speak: asked for, AVATOP_LANG, configured, else the locale's, else English.

    Raises:
        LanguageError: what was asked for or configured has no catalogue.
    """
    for wanted in (asked, environ.get("AVATOP_LANG"), configured):
        if wanted:
            found = known(wanted)
            if found is None:
                use(wanted)  # raises, with the names there are
            return found or "en"
    for variable in ("LC_ALL", "LC_MESSAGES", "LANGUAGE", "LANG"):
        value = environ.get(variable, "")
        if value:
            return known(value.split(":")[0]) or "en"
    return "en"
