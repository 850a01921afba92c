"""Who gets past the gate, and who does not?"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from console.web.gate import COOKIE, TRIES, Gate
from console.web.where import where


async def inside(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def client(gate: Gate, host: str = "localhost:7860") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url=f"http://{host}")


async def test_the_loopback_asks_for_nothing_but_its_own_name() -> None:
    gate = Gate(inside, None, ())
    async with client(gate) as local:
        assert (await local.get("/")).text == "inside"
    for name in ("evil.example", "localhost.evil.example", "[bad", ""):
        async with client(gate) as other:
            answer = await other.get("/", headers={"host": name})
            assert answer.status_code == 403


async def test_a_page_of_another_site_may_not_use_it() -> None:
    async with client(Gate(inside, None, ())) as browser:
        for origin in ("https://evil.example", "http://localhost:9999"):
            assert (await browser.post("/", headers={"origin": origin})).status_code == 403
        assert (await browser.post("/", headers={"origin": "null"})).status_code == 403
        own = await browser.post("/", headers={"origin": "http://localhost:7860"})
        assert own.status_code == 200


async def test_a_websocket_has_to_pass_too() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/queue",
        "headers": [(b"host", b"localhost:7860"), (b"origin", b"https://evil.example")],
    }
    await Gate(inside, None, ())(scope, None, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_a_token_opens_and_leaves_the_address_bar() -> None:
    async with client(Gate(inside, "secret", ())) as browser:
        assert (await browser.get("/")).status_code == 401
        first = await browser.get("/?token=secret&job=abc")
        assert (first.status_code, first.headers["location"]) == (303, "/?job=abc")
        assert "HttpOnly" in first.headers["set-cookie"]
        assert browser.cookies[COOKIE] == "secret"
        assert (await browser.get("/")).text == "inside"
        browser.cookies.clear()
        bearer = {"authorization": "Bearer secret"}
        assert (await browser.get("/api/x", headers=bearer)).text == "inside"


async def test_guessing_is_slowed_down() -> None:
    clock = Clock()
    async with client(Gate(inside, "secret", (), clock)) as guesser:
        for n in range(TRIES):
            assert (await guesser.get(f"/?token={n}")).status_code == 401
        assert (await guesser.get("/?token=secret")).status_code == 429
        clock.now = 61
        assert (await guesser.get("/?token=secret")).status_code == 303


def test_bound_elsewhere_a_token_is_made() -> None:
    assert where("127.0.0.1", 1, None, ()).token is None
    open_to_all = where("0.0.0.0", 1, None, ())
    assert open_to_all.token is not None
    assert len(open_to_all.token) >= 32
    assert open_to_all.token in open_to_all.url


@pytest.mark.parametrize("token", ["", "wrong", "secret "])
async def test_wrong_tokens_are_wrong(token: str) -> None:
    async with client(Gate(inside, "secret", ())) as browser:
        answer = await browser.get("/", headers={"authorization": f"Bearer x{token}"})
        assert answer.status_code == 401
