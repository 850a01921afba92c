"""Who may pass: a token, the host's own names, pages of the same origin; guessing is slowed down.

Plain ASGI around the whole application, so that nothing inside it, websockets included, can be
reached past it.
"""

from __future__ import annotations

import hmac
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE: Final = "avatop_token"
#: Wrong tokens from one address within so many seconds, after which it has to wait.
TRIES: Final = 10
WINDOW_SECONDS: Final = 60.0
_ADDRESSES: Final = 4096  # remembered at most
LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Gate:
    """Wraps an ASGI application.

    Args:
        token: asked for unless None (a server on the loopback interface only).
        hosts: names by which the server may be addressed; others are refused, or a page anywhere
            could have its name resolve to this machine (DNS rebinding).
    """

    def __init__(
        self,
        app: App,
        token: str | None,
        hosts: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._token, self._clock = app, token, clock
        self._hosts = {host.lower() for host in hosts} | LOCAL
        self._wrong: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        status, words, extra = self._judge(scope, headers)
        if status is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4403, "reason": words})
        else:
            await _answer(send, status, words, extra)

    def _judge(
        self, scope: Scope, headers: dict[str, str]
    ) -> tuple[int | None, str, list[tuple[bytes, bytes]]]:
        """(status, words, headers) of a refusal or a redirection; status None: pass."""
        name = _name(headers.get("host", ""))
        if name not in self._hosts:
            return 403, f"this server is not called {name or 'so'}; --allow-host adds a name", []
        origin = headers.get("origin")
        if origin not in (None, "null") and urlsplit(str(origin)).netloc != headers.get("host"):
            return 403, "a page of another site may not use this server", []
        if origin == "null" and scope.get("method") not in ("GET", "HEAD"):
            return 403, "a page without an origin may not use this server", []
        if self._token is None:
            return None, "", []
        return self._by_token(scope, headers)

    def _by_token(
        self, scope: Scope, headers: dict[str, str]
    ) -> tuple[int | None, str, list[tuple[bytes, bytes]]]:
        assert self._token is not None
        address = str((scope.get("client") or ("?",))[0])
        wrong = self._wrong.setdefault(address, deque(maxlen=TRIES))
        now = self._clock()
        while wrong and now - wrong[0] > WINDOW_SECONDS:
            wrong.popleft()
        if len(wrong) >= TRIES:
            return 429, "too many wrong tokens; wait a minute", [(b"retry-after", b"60")]
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        by_link = query.get("token", [""])[0]
        given = by_link or _bearer(headers) or _cookie(headers)
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            if given:
                wrong.append(now)
                while len(self._wrong) > _ADDRESSES:
                    del self._wrong[next(iter(self._wrong))]
            words = "a token is needed: open the link that avatop web printed"
            return 401, words, [(b"www-authenticate", b"Bearer")]
        wrong.clear()
        if not by_link or scope.get("method") != "GET":
            return None, "", []
        # Out of the address bar, its history and every log on the way.
        rest = urlencode({k: v for k, v in query.items() if k != "token"}, doseq=True)
        target = scope.get("path", "/") + (f"?{rest}" if rest else "")
        cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
        extra = [(b"location", target.encode()), (b"set-cookie", cookie.encode())]
        return 303, "", extra


def _name(host: str) -> str:
    """The host's name without its port, of IPv6 addresses too."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _bearer(headers: dict[str, str]) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def _cookie(headers: dict[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


async def _answer(send: Send, status: int, words: str, extra: list[tuple[bytes, bytes]]) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers + extra})
    await send({"type": "http.response.body", "body": words.encode()})
