"""One notification to one address: apprise, and the chat robots whose 200 is no success.

WeCom, DingTalk, Feishu and Lark answer HTTP 200 with an error code in the body; apprise reads the
status alone (checked with 1.9 and 2.2), so these are posted here. Whatever goes wrong is told
without the address or any part of it that is secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from engine.alerts.notify import Secret

TIMEOUT: Final = 15.0
#: Bytes of text: WeCom takes 2,048 of one message, the others more.
LONGEST: Final = 2000
_MOST_ANSWER: Final = 65536
_SECRETS: Final = re.compile(r"[A-Za-z0-9_-]{6,}")
#: Words of addresses that are no secret, and would make an answer hard to read.
_PLAIN: Final = frozenset(
    {"cgi-bin", "webhook", "access_token", "open-apis", "localhost", "insecure", "mailto"}
)
_STATUS: Final = ("errcode", "code", "StatusCode")


class DeliveryError(RuntimeError):
    """It did not arrive; the text holds no secret."""


@dataclass(frozen=True)
class Robot:
    """A chat robot's webhook. ``secret`` signs DingTalk's and Feishu's requests."""

    kind: str  # "wecom" | "dingtalk" | "feishu"
    url: str
    secret: str | None = None

    def __repr__(self) -> str:
        return f"Robot({self.kind}, ***)"


def deliver(
    address: Secret,
    title: str,
    body: str,
    severity: str,
    *,
    clock: Callable[[], float] = time.time,
) -> None:
    """Send one notification. Blocks for up to ``TIMEOUT`` seconds; call it on a thread for it.

    Raises:
        DeliveryError: it did not arrive, as far as can be known.
    """
    text = address.reveal()
    try:
        robot = robot_of(text)
        if robot is not None:
            _post(robot, f"{title}\n{body}", clock())
        else:
            _by_apprise(text, title, body, severity)
    except DeliveryError as error:
        raise DeliveryError(redacted(str(error), text)) from None


def robot_of(url: str) -> Robot | None:
    """A robot, by its own https address or apprise's short form; None for anything else.

    ``wecombot://KEY``, ``dingtalk://[SECRET@]TOKEN``, ``feishu://[SECRET@]TOKEN``, ``lark://TOKEN``.
    A self-hosted relay is named by scheme and path: ``https://host/cgi-bin/webhook/send?key=KEY``.

    Raises:
        DeliveryError: an address that cannot be read.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, user = parts.netloc.rpartition("@")[2], parts.username
    except ValueError:
        raise DeliveryError("the address cannot be read") from None
    token = urllib.parse.quote(host, safe="")
    match parts.scheme:
        case "wecombot":
            base = "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key="
            return Robot("wecom", base + token)
        case "dingtalk":
            base = "https://oapi.dingtalk.com/robot/send?access_token="
            return Robot("dingtalk", base + token, user)
        case "feishu":
            return Robot("feishu", f"https://open.feishu.cn/open-apis/bot/v2/hook/{token}", user)
        case "lark":
            base = "https://open.larksuite.com/open-apis/bot/v2/hook/"
            return Robot("feishu", base + token, user)
        case "http" | "https":
            return _native(parts, url)
        case _:
            return None


def redacted(text: str, address: str) -> str:
    """The text without the address, and without any word of it that may be a key."""
    text = text.replace(address, "***")
    parts = urllib.parse.urlsplit(address) if "://" in address else None
    words = {parts.username or "", parts.password or ""} if parts is not None else set()
    rest = address.partition("://")[2]
    words |= set(_SECRETS.findall(rest)) | set(_SECRETS.findall(urllib.parse.unquote(rest)))
    for word in sorted(words, key=len, reverse=True):
        if word and word not in _PLAIN:
            text = text.replace(word, "***")
    return text


def _native(parts: urllib.parse.SplitResult, url: str) -> Robot | None:
    if parts.path.startswith("/cgi-bin/webhook/send"):
        return Robot("wecom", url)
    # DingTalk's and Feishu's signing secret follows the address as a fragment.
    bare, secret = urllib.parse.urldefrag(url)
    if parts.path.startswith("/robot/send"):
        return Robot("dingtalk", bare, secret or None)
    if parts.path.startswith("/open-apis/bot/"):
        return Robot("feishu", bare, secret or None)
    return None


def _post(robot: Robot, text: str, now: float) -> None:
    url, payload = _payload(robot, _cut(text, LONGEST), now)
    request = urllib.request.Request(
        url,
        json.dumps(payload, ensure_ascii=False).encode(),
        {"Content-Type": "application/json; charset=utf-8", "User-Agent": "avatop"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            raw = answer.read(_MOST_ANSWER)
    except urllib.error.HTTPError as error:
        raise DeliveryError(f"{robot.kind} answered HTTP {error.code}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DeliveryError(f"{robot.kind} cannot be reached: {reason}") from None
    _check(robot, raw)


def _check(robot: Robot, raw: bytes) -> None:
    """Anything but a code of 0 is a failure, whatever the HTTP status said."""
    try:
        answer = json.loads(raw)
    except ValueError:
        answer = None
    codes = [answer[k] for k in _STATUS if k in answer] if isinstance(answer, dict) else []
    if not codes:
        raise DeliveryError(f"{robot.kind} answered without a code: not taken as delivered")
    if codes[0] != 0:
        said = answer.get("errmsg") or answer.get("msg") or answer.get("StatusMessage") or ""
        raise DeliveryError(f"{robot.kind} refused it: code {codes[0]} {str(said)[:200]}".rstrip())


def _payload(robot: Robot, text: str, now: float) -> tuple[str, dict[str, Any]]:
    if robot.kind == "feishu":
        body: dict[str, Any] = {"msg_type": "text", "content": {"text": text}}
        if robot.secret:
            stamp = str(int(now))
            key = f"{stamp}\n{robot.secret}".encode()
            body |= {"timestamp": stamp, "sign": _sign(key, b"")}
        return robot.url, body
    body = {"msgtype": "text", "text": {"content": text}}
    if robot.kind == "dingtalk" and robot.secret:
        stamp = str(int(now * 1000))
        sign = _sign(robot.secret.encode(), f"{stamp}\n{robot.secret}".encode())
        query = urllib.parse.urlencode({"timestamp": stamp, "sign": sign})
        return f"{robot.url}&{query}", body
    return robot.url, body


def _sign(key: bytes, text: bytes) -> str:
    return base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


def _cut(text: str, most: int) -> str:
    """At most so many bytes of UTF-8, whole characters."""
    raw = text.encode()
    if len(raw) <= most:
        return text
    return raw[: most - 3].decode(errors="ignore") + "…"


def _by_apprise(url: str, title: str, body: str, severity: str) -> None:
    try:
        import apprise
    except ImportError:
        raise DeliveryError("apprise is not installed: pip install 'avatop[notify]'") from None
    kinds = {
        "critical": apprise.NotifyType.FAILURE,
        "warning": apprise.NotifyType.WARNING,
        "resolved": apprise.NotifyType.SUCCESS,
    }
    # What apprise has against an address it says to its log alone.
    with apprise.LogCapture(level=logging.WARNING) as log:  # type: ignore[no-untyped-call]
        sender = apprise.Apprise()
        known = sender.add(url)
        arrived = known and sender.notify(
            body=body, title=title, notify_type=kinds.get(severity, apprise.NotifyType.INFO)
        )
        said = log.getvalue().strip()
    if not known:
        raise DeliveryError(f"apprise does not know such an address. {_last_line(said)}".rstrip())
    if not arrived:
        raise DeliveryError(_last_line(said) or "apprise says that it did not arrive")


def _last_line(text: str) -> str:
    line = text.splitlines()[-1] if text else ""
    return re.sub(r"^[\d\-:, ]+ - [A-Z]+ - ", "", line)[:300]
