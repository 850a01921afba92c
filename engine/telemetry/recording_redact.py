"""What leaves a host in an incident bundle, without what identifies people or opens doors.

Home folders, user names, secrets in whatever looks like an assignment, well-known token shapes,
addresses of mail, and (unless asked otherwise) prompts and frames. What was replaced is counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

#: Accounts that name no person.
_PUBLIC_USERS: Final = frozenset({"root", "nobody", "daemon", "www-data", "systemd", "messagebus"})
_SECRET_WORD: Final = (
    r"(?:[A-Za-z0-9_.-]*(?:token(?!s|iz)|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|credential|authorization|cookie|webhook|session[_-]?id)[A-Za-z0-9_.-]*)"
)
_VALUE: Final = r"(?!<secret>|bearer |basic )(?:\\?\"[^\"\n]*?\\?\"|'[^'\n]*'|[^\s\"',;&}\]]+)"
_RULES: Final[tuple[tuple[str, re.Pattern[str], str], ...]] = (
    (
        "secret",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
        "<key>",
    ),
    ("secret", re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), r"\1 <secret>"),
    ("secret", re.compile(r"(://)[^/\s:@'\"]+:[^/\s@'\"]+@"), r"\1<secret>@"),
    (
        "secret",
        # NAME=value, "name": "value", name: value; quotes in JSON may be escaped.
        re.compile(rf"(?i)(\b{_SECRET_WORD}\\?[\"']?\s*[=:]\s*){_VALUE}"),
        r"\1<secret>",
    ),
    ("secret", re.compile(rf"(?i)(--{_SECRET_WORD}\s+){_VALUE}"), r"\1<secret>"),
    ("secret", re.compile(r"(?i)([?&](?:key|sig|signature|access_token|code)=)[^&\s\"']+"),
     r"\1<secret>"),
    (
        "secret",
        re.compile(
            r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
            r"|sk-[A-Za-z0-9_-]{16,}|xox[abprs]-[A-Za-z0-9-]{10,}|A[KS]IA[A-Z0-9]{16}"
            r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|AIza[\w-]{30,})"
        ),
        "<secret>",
    ),
    ("mail address", re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]*[A-Za-z]\b"), "<mail>"),
)  # fmt: skip
_HOME: Final = re.compile(r"(?:/home|/Users|/var/home|/export/home)/([A-Za-z_][\w.-]*)|/root\b")


class Redactor:
    """Replaces, and counts by kind.

    Args:
        users: names of accounts known to occur.
        homes: home folders besides the usual ones.
        prompts, frames: whether these stay.
    """

    def __init__(
        self,
        users: Iterable[str] = (),
        homes: Iterable[str] = (),
        *,
        prompts: bool = False,
        frames: bool = False,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._keep_prompts, self._keep_frames = prompts, frames
        self._users: dict[str, str] = {}
        self._homes = sorted({h.rstrip("/") for h in homes if h.count("/") > 1}, key=len)[::-1]
        self._prompts: list[str] = []
        self._names: re.Pattern[str] | None = None
        self._clean: set[str] = set()  # short texts known to hold nothing
        for user in users:
            self.know_user(user)

    def know_user(self, name: str) -> None:
        """A name that is replaced from now on, always by the same stand-in."""
        if len(name) < 3 or name in _PUBLIC_USERS or name in self._users or name.isdigit():
            return
        self._users[name] = f"user{len(self._users) + 1}"
        self._clean.clear()
        words = "|".join(re.escape(n) for n in sorted(self._users, key=len, reverse=True))
        self._names = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])")

    def know_prompt(self, prompt: str) -> None:
        """A prompt that is replaced from now on, also inside log lines."""
        if not self._keep_prompts and len(prompt) >= 8 and prompt not in self._prompts:
            self._clean.clear()
            self._prompts.append(prompt)

    def text(self, text: str) -> str:
        """One text, redacted."""
        if text in self._clean:
            return text
        before = text
        for prompt in self._prompts:
            if prompt in text:
                self.counts["prompt"] += text.count(prompt)
                text = text.replace(prompt, f"<prompt of {len(prompt)} characters>")
        for home in self._homes:
            if home in text:
                self.counts["home folder"] += text.count(home)
                text = text.replace(home, "~")
        text = _HOME.sub(self._home, text)
        for kind, pattern, by in _RULES:
            text, count = pattern.subn(by, text)
            self.counts[kind] += count
        if self._names is not None:
            text = self._names.sub(self._name, text)
        if text == before and len(text) < 200 and len(self._clean) < 50_000:
            self._clean.add(text)
        return text

    def _home(self, found: re.Match[str]) -> str:
        self.counts["home folder"] += 1
        if found[1]:
            self.know_user(found[1])
        return "~"

    def _name(self, found: re.Match[str]) -> str:
        self.counts["user name"] += 1
        return self._users[found[0]]

    def data(self, value: Any, key: str = "") -> Any:
        """JSON data, redacted through and through."""
        if isinstance(value, dict):
            return {k: self.data(v, str(k)) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.data(item, key) for item in value]
        if not isinstance(value, str) or not value:
            return value
        if key == "preview_rgb":
            return value if self._keep_frames else self._without("frame")
        if key == "prompt" and not self._keep_prompts:
            self.counts["prompt"] += 1
            return f"<prompt of {len(value)} characters>"
        if key == "user":
            self.know_user(value)
        if re.fullmatch(_SECRET_WORD, key, re.IGNORECASE):
            self.counts["secret"] += 1
            return "<secret>"
        return self.text(value)

    def _without(self, kind: str) -> str:
        self.counts[kind] += 1
        return ""

    def report(self) -> dict[str, int]:
        """How often each kind was replaced."""
        return {kind: count for kind, count in sorted(self.counts.items()) if count}
