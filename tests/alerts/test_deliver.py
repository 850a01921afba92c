"""Does a notification arrive, word for word; is a refusal noticed; does no secret get out?"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import http.server
import json
import logging
import pickle
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiosmtpd.smtp import SMTP

from engine.alerts.deliver import LONGEST, DeliveryError, deliver, redacted, robot_of
from engine.alerts.notify import Secret, SecretError, Target

KEY = "693axxx6-7aoc-4bc4-97a0-0ec2sifa5aaa"


class Web:
    """A web server that keeps what it gets and answers as told."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.answer: tuple[int, bytes] = (200, b'{"errcode":0,"errmsg":"ok"}')
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.got.append((self.path, json.loads(body)))
                self.send_response(web.answer[0])
                self.send_header("Content-Length", str(len(web.answer[1])))
                self.end_headers()
                self.wfile.write(web.answer[1])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.at = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.server.shutdown()
    server.server.server_close()


def _wecom(web: Web) -> Secret:
    return Secret(f"http://{web.at}/cgi-bin/webhook/send?key={KEY}")


def test_wecom_gets_its_payload(web: Web) -> None:
    deliver(_wecom(web), "avatop gpu-srv-07: 1 firing (critical)", "GPU 3 at 86 °C", "critical")
    assert web.got == [
        (
            f"/cgi-bin/webhook/send?key={KEY}",
            {
                "msgtype": "text",
                "text": {"content": "avatop gpu-srv-07: 1 firing (critical)\nGPU 3 at 86 °C"},
            },
        )
    ]


@pytest.mark.parametrize(
    ("status", "answer", "says"),
    [
        (200, b'{"errcode":93000,"errmsg":"invalid webhook url"}', "code 93000 invalid webhook"),
        (200, b'{"errcode":45009,"errmsg":"api freq out of limit"}', "code 45009"),
        (200, b"<html>a proxy's page</html>", "without a code"),
        (200, b"[]", "without a code"),
        (500, b"", "HTTP 500"),
    ],
)
def test_wecom_s_200_is_a_success_with_errcode_0_alone(
    web: Web, status: int, answer: bytes, says: str
) -> None:
    web.answer = (status, answer)
    with pytest.raises(DeliveryError) as error:
        deliver(_wecom(web), "t", "b", "warning")
    assert says in str(error.value)
    assert KEY not in str(error.value)


def test_dingtalk_and_feishu_are_signed_and_their_codes_are_read(web: Web) -> None:
    address = Secret(f"http://{web.at}/robot/send?access_token=TOKEN99#SEC123456")
    deliver(address, "t", "b", "warning", clock=lambda: 1700000000.0)
    path, body = web.got[-1]
    query = parse_qs(urlsplit(path).query)
    mac = hmac.new(b"SEC123456", b"1700000000000\nSEC123456", hashlib.sha256)
    assert query["sign"] == [base64.b64encode(mac.digest()).decode()]
    assert body == {"msgtype": "text", "text": {"content": "t\nb"}}

    web.answer = (200, b'{"code":19024,"msg":"Key Words Not Found"}')
    feishu = Secret(f"http://{web.at}/open-apis/bot/v2/hook/TOKEN99#SEC123456")
    with pytest.raises(DeliveryError, match="code 19024 Key Words Not Found"):
        deliver(feishu, "t", "b", "warning", clock=lambda: 1700000000.0)
    _, body = web.got[-1]
    assert body["msg_type"] == "text"
    assert body["content"] == {"text": "t\nb"}
    mac = hmac.new(b"1700000000\nSEC123456", b"", hashlib.sha256)
    assert body["sign"] == base64.b64encode(mac.digest()).decode()


@pytest.mark.parametrize(
    ("address", "kind", "host"),
    [
        (f"wecombot://{KEY}", "wecom", "qyapi.weixin.qq.com"),
        ("dingtalk://SECRET@TOKEN", "dingtalk", "oapi.dingtalk.com"),
        ("feishu://TOKEN", "feishu", "open.feishu.cn"),
        ("lark://TOKEN", "feishu", "open.larksuite.com"),
    ],
)
def test_apprise_s_short_forms_name_the_same_robots(address: str, kind: str, host: str) -> None:
    robot = robot_of(address)
    assert robot is not None
    assert (robot.kind, urlsplit(robot.url).hostname) == (kind, host)
    assert "TOKEN" not in repr(robot)
    assert KEY not in repr(robot)
    assert robot_of("slack://TokenA/TokenB/TokenC") is None


def test_a_long_text_is_cut_to_what_wecom_takes_at_a_whole_character(web: Web) -> None:
    deliver(_wecom(web), "t", "显存" * 2000, "warning")
    content = web.got[0][1]["text"]["content"]
    assert len(content.encode()) <= LONGEST
    assert content.endswith(("存…", "显…"))


def test_a_webhook_gets_apprise_s_payload(web: Web) -> None:
    web.answer = (204, b"")
    deliver(Secret(f"json://{web.at}/alerts/SECRETPATH"), "title", "body", "critical")
    path, body = web.got[0]
    assert path == "/alerts/SECRETPATH"
    assert (body["title"], body["message"], body["type"]) == ("title", "body", "failure")


def test_what_apprise_has_against_it_is_told_without_the_address(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    web.answer = (403, b"")
    secret = Secret(f"json://user:hunter2secret@{web.at}/SECRETPATH")
    with pytest.raises(DeliveryError) as error:
        deliver(secret, "t", "b", "warning")
    assert "403" in str(error.value)
    for word in ("hunter2secret", "SECRETPATH"):
        assert word not in str(error.value)
    assert not any(
        "SECRETPATH" in r.getMessage() or "hunter2secret" in r.getMessage()
        for r in caplog.records
        if r.levelno >= logging.WARNING
    )
    with pytest.raises(DeliveryError) as error:
        deliver(Secret("nonsense://SECRETPATH"), "t", "b", "warning")
    assert "SECRETPATH" not in str(error.value)


class Mailbox:
    """An SMTP server's handler that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.got.append(envelope)
        return "250 OK"


async def test_a_mail_arrives_with_subject_and_lines() -> None:
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    smtp = await loop.create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
    port = smtp.sockets[0].getsockname()[1]
    people = "from=avatop@example.org&to=ops@example.org"
    address = Secret(f"mailto://127.0.0.1:{port}/?{people}&mode=insecure")
    title, body = "avatop h: 1 firing", "GPU 3 at 86 °C\nGPU 4 too"
    try:
        await asyncio.to_thread(deliver, address, title, body, "critical")
    finally:
        smtp.close()
    (envelope,) = mailbox.got
    assert envelope.rcpt_tos == ["ops@example.org"]
    mail = message_from_bytes(envelope.content)
    assert str(make_header(decode_header(mail["Subject"]))) == "avatop h: 1 firing"
    texts = [p.get_payload(decode=True).decode() for p in mail.walk() if not p.is_multipart()]  # type: ignore[union-attr]
    assert any("GPU 3 at 86 °C" in text and "GPU 4 too" in text for text in texts)


def test_a_secret_shows_itself_nowhere(tmp_path: Path) -> None:
    secret = Secret("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    assert "T1JJ3T3L2" not in f"{secret} {secret!r} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert redacted("to T1JJ3T3L2 failed", secret.reveal()) == "to *** failed"
    file = tmp_path / "wecom"
    file.write_text("wecombot://KEY\n")
    file.chmod(0o600)
    target = Target("ops", url_file=file)
    assert target.address().reveal() == "wecombot://KEY"
    file.chmod(0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        target.address()
    with pytest.raises(SecretError, match="AVATOP_NOT_THERE is not set"):
        Target("ops", url_env="AVATOP_NOT_THERE").address({})
