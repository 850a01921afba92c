"""Does anything that is sent escape its folder, or fill the disk?"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from console.web.tickets import Tickets
from console.web.uploads import Limits, UploadRefused, Uploads, is_ticket


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.png", "a\0b.png", "/abs.png", "x" * 5000 + ".png", "🙂 [b].PNG"]
)
def test_only_the_kind_of_a_name_is_used(name: str, tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    ticket = uploads.new()
    kept = uploads.take(ticket, "image", name, io.BytesIO(b"data"))
    assert kept == tmp_path / ticket / "image.png"


@pytest.mark.parametrize("name", ["run.sh", "face.svg", "face", ".png/..", "voice.wav"])
def test_other_kinds_are_refused(name: str, tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    with pytest.raises(UploadRefused, match="no known kind"):
        uploads.take(uploads.new(), "image", name, io.BytesIO(b""))


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, Limits(image_bytes=2**20))
    ticket = uploads.new()
    with pytest.raises(UploadRefused, match="over 1 MiB"):
        uploads.take(ticket, "image", "a.png", io.BytesIO(b"x" * (2**20 + 1)))
    assert list((tmp_path / ticket).iterdir()) == []


def test_a_full_folder_takes_no_more(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, Limits(folder_bytes=3))
    uploads.take(uploads.new(), "image", "a.png", io.BytesIO(b"four"))
    with pytest.raises(UploadRefused, match="as much as it may"):
        uploads.new()


def test_old_uploads_and_their_videos_go(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, Limits(keep_seconds=60))
    old = uploads.new()
    uploads.video(old).write_bytes(b"video")
    os.utime(tmp_path / old, (0, 0))
    fresh = uploads.new()
    assert not (tmp_path / old).exists()
    assert not uploads.video(old).exists()
    assert (tmp_path / fresh).exists()


def test_tickets_survive_a_restart_and_nothing_else_is_one(tmp_path: Path) -> None:
    ticket = Uploads(tmp_path).new()
    tickets = Tickets(tmp_path / "tickets")
    tickets.add(ticket, 7)
    with (tmp_path / "tickets").open("a") as file:
        file.write('["torn')
    again = Tickets(tmp_path / "tickets")
    assert again.job(ticket) == 7
    for other in ("", "..", "../" * 8, ticket[:-1], ticket + "x", "a" * 21 + "/"):
        assert not is_ticket(other)
        assert again.job(other) is None
