"""Does a job go through the web and back, by page, by HTTP, and past a closed browser?"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from engine.resources import sample_data

FACE = sample_data() / "portraits" / "flat.png"
VOICE = sample_data() / "speech" / "english.wav"
PROMPT = "a person speaks to the camera in soft light, upper body, plain background"


@contextmanager
def door(folder: Path, token: str = "") -> Iterator[str]:
    """A real server; its URL. Its engine ends with its jobs."""
    port = _free_port()
    env = os.environ | {
        "AVATOP_STATE_DIR": str(folder / "state"),
        "AVATOP_WEB_TOKEN": token,
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-m", "console", "web", "--port", str(port), "--gpus", "cpu"]
    words += ["--ckpt_dir", str(sample_data() / "ckpt"), "--num_clip", "1", "--size", "64*64"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(words, env=env, stdout=log, stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            _until_up(url, server, folder / "log")
            yield url
        finally:
            server.terminate()
            assert server.wait(60) == 0, (folder / "log").read_text()
            stop = [sys.executable, "-m", "console", "stop", "--now"]
            subprocess.run(stop, env=env, capture_output=True, timeout=30, check=False)


def _free_port() -> int:
    """Below those that the kernel hands out by itself: nobody is given it meanwhile."""
    for port in random.sample(range(20_000, 32_000), 50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def _until_up(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            httpx.get(f"{url}/api/jobs/x", timeout=5)
        except httpx.TransportError:
            time.sleep(0.05)  # a listening socket in another process cannot be waited for
        else:
            return
    raise AssertionError(log.read_text())


@pytest.mark.ranks
def test_R3_B7_a_round_trip_by_page_and_by_http(tmp_path: Path) -> None:
    with door(tmp_path) as url:
        page = Client(url, verbose=False, download_files=str(tmp_path / "down"))
        values = (PROMPT, "", "", None, None, None, False)
        assert "fits" in page.predict(handle_file(FACE), *values, api_name="/plan")
        given = page.predict(handle_file(FACE), handle_file(VOICE), *values, api_name="/submit")
        ticket = given[0]
        assert len(ticket) == 22

        with FACE.open("rb") as face, VOICE.open("rb") as voice:
            second = httpx.post(
                f"{url}/api/jobs",
                files={"image": ("f.png", face), "audio": ("v.wav", voice)},
                data={"prompt": PROMPT, "base_seed": "3"},
                timeout=60,
            )
        assert second.status_code == 202
        other = second.json()["ticket"]
        for number in (ticket, other):
            told = _until_ended(url, number)
            assert (told["state"], told["error"]) == ("done", None)
            assert told["report"]["frames"] == 45
            video = httpx.get(f"{url}{told['video']}", timeout=30)
            assert video.headers["content-type"] == "video/mp4"
            assert video.content[4:8] == b"ftyp"
        seen = page.predict(ticket, api_name="/status")
        assert "done" in seen[1]
        assert Path(seen[3]["video"] if isinstance(seen[3], dict) else seen[3]).stat().st_size > 0


def test_what_is_not_accepted_says_why_and_nothing_else_is_served(tmp_path: Path) -> None:
    with door(tmp_path, token="sesame") as url:
        assert httpx.get(f"{url}/", timeout=30).status_code == 401
        key = {"authorization": "Bearer sesame"}
        assert "avatop" in httpx.get(f"{url}/", headers=key, timeout=30).text

        def post(face: Any, **data: str) -> httpx.Response:
            with VOICE.open("rb") as voice:
                files = {"image": face, "audio": ("v.wav", voice)}
                return httpx.post(
                    f"{url}/api/jobs", files=files, data=data, headers=key, timeout=60
                )

        small = post(("x.png", b"not a picture"))
        assert small.status_code == 422
        assert "image" in small.json()["detail"]
        assert post(("x.exe", b"MZ")).status_code == 422
        with FACE.open("rb") as face:
            assert "num_clip" in post(("x.png", face), num_clip="0").json()["detail"]
        uploads = tmp_path / "state" / "web"
        assert [p.name for p in uploads.iterdir() if p.is_dir()] == ["videos"]
        secret = tmp_path / "state" / "secret.txt"
        secret.write_text("secret")
        for path in (
            f"/gradio_api/file={secret}",
            "/api/jobs/..%2f..%2fsecret.txt",
            "/file=/etc/passwd",
        ):
            answer = httpx.get(f"{url}{path}", headers=key, timeout=30)
            assert answer.status_code in (403, 404), path


def _until_ended(url: str, ticket: str) -> dict[str, Any]:
    """Asks as a program of theirs would; bounded by the test's own time limit."""
    while True:
        told: dict[str, Any] = httpx.get(f"{url}/api/jobs/{ticket}", timeout=30).json()
        if told["state"] in ("done", "failed", "interrupted", "cancelled"):
            return told
        time.sleep(0.1)
