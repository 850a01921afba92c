"""Where the server listens, by which names, and what it asks of visitors."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from console.web.gate import LOCAL


@dataclass(frozen=True)
class Where:
    """Where to listen, and by which names. ``token`` None: nobody is asked for one."""

    host: str
    port: int
    token: str | None
    names: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """What to open; with the token, which the first visit takes out of the address bar."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        tail = "" if self.token is None else f"?token={self.token}"
        return f"http://{host}:{self.port}/{tail}"


def where(host: str, port: int, token: str | None, names: Iterable[str]) -> Where:
    """A token of our own making wherever the server can be reached from elsewhere."""
    if token is None and host not in LOCAL:
        token = secrets.token_urlsafe(24)
    return Where(host, port, token, (host, *names))
