"""Streams: the same findings as from a whole file, bounded memory, files that rotate or shrink."""

from __future__ import annotations

import gzip
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.triage import Classifier, Finding, classify
from engine.triage.classifier import EPISODE_GAP, Watcher, feed_bytes, feed_end
from engine.triage.reader import CHUNK, PART, LineSplitter, chunks, follow
from engine.triage.scan import BLOCK
from tests.triage.lines import HARMLESS, TOLD

OOM = "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
PEER = "[rank0]: recvValue failed on SocketImpl(fd=3): failed to recv, got 0 bytes"


def log(lines: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    told = [line for texts in TOLD.values() for text in texts for line in text.split("\n")]
    return [
        generator.choice(told) if generator.random() < 0.01 else generator.choice(HARMLESS)
        for _ in range(lines)
    ]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chunks_of_any_size_give_what_the_whole_file_gives(seed: int) -> None:
    lines = log(3 * BLOCK + 17, seed)
    data = "\n".join(lines).encode()
    generator = random.Random(seed)
    classifier, splitter = Classifier(), LineSplitter()
    place = 0
    while place < len(data):
        size = generator.choice((1, 7, 1_000, 50_000))
        feed_bytes(classifier, splitter, data[place : place + size])
        place += size
    feed_end(classifier, splitter)
    assert classifier.findings() == classify(lines)
    assert classifier.lines == len(lines)


@pytest.mark.parametrize("offset", range(-3, 4))
def test_a_wrapped_message_on_a_block_s_border_is_seen(offset: int) -> None:
    message = "y" * 70 + " CUDA error: device-side assert triggered and then a few words more"
    lines = ["quiet"] * (BLOCK - 8 + offset)
    lines += [message[:100], message[100:]]
    lines += ["quiet"] * BLOCK
    assert [f.class_ for f in classify(lines)] == ["device_side_assert"]


def test_looking_in_between_changes_nothing() -> None:
    lines = log(BLOCK + 300, 4)
    classifier = Classifier()
    for n, line in enumerate(lines):
        classifier.feed(line)
        if n % 500 == 0:
            classifier.findings()
    assert classifier.findings() == classify(lines)


def test_an_endless_stream_keeps_only_what_is_open() -> None:
    classifier = Classifier()
    taken: list[Finding] = []
    for _ in range(3):
        for line in (OOM, PEER, *["quiet"] * (EPISODE_GAP + 2 * BLOCK)):
            classifier.feed(line)
        taken += classifier.take()
    assert [f.class_ for f in taken] == ["cuda_oom", "peer_rank_died"] * 3
    assert classifier.findings() == []
    assert len(classifier._scanner._lines) <= BLOCK
    assert not classifier._episode


def test_a_finding_is_told_once_and_again_when_it_turns_out_to_be_a_victim() -> None:
    classifier = Classifier()
    watcher = Watcher(classifier)
    classifier.feed("Received 15 death signal, shutting down workers")
    assert [(f.class_, f.role) for f in watcher.news()] == [("terminated_by_signal", "root")]
    assert list(watcher.news()) == []
    classifier.feed(OOM)
    assert {(f.class_, f.role) for f in watcher.news()} == {
        ("cuda_oom", "root"),
        ("terminated_by_signal", "victim"),
    }


def test_ten_megabytes_without_a_line_end_and_bytes_that_are_no_text() -> None:
    classifier, splitter = Classifier(), LineSplitter()
    head = b"\xff\xfe\x00 first \xc3\n"
    huge = b"z" * (5 << 20) + b" CUDA error: misaligned address " + b"z" * (5 << 20)
    for piece in (b"\xef\xbb\xbf", head, huge, b"\nlast"):
        feed_bytes(classifier, splitter, piece)
        assert len(splitter._rest) <= PART
    feed_end(classifier, splitter)
    assert classifier.lines == 3
    (finding,) = classifier.findings()
    assert (finding.class_, finding.lines) == ("illegal_memory_access", (2, 2))


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(f"{OOM}\n".encode()) + gzip.compress(b"done\n"),  # rotated, then appended
        gzip.compress(f"{OOM}\n{'z' * (9 << 20)}".encode())[:-20],  # cut off
        f"{OOM}\r\n".encode("utf-16"),  # as PowerShell writes it
    ],
)
def test_a_rotated_log_and_one_of_windows_are_read_as_what_they_are(
    packed: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(packed)
    classifier, splitter = Classifier(), LineSplitter()
    with path.open("rb", buffering=0) as stream:
        for piece in chunks(stream):
            assert len(piece) <= CHUNK
            feed_bytes(classifier, splitter, piece)
    feed_end(classifier, splitter)
    assert [finding.class_ for finding in classifier.findings()] == ["cuda_oom"]


@pytest.mark.parametrize("packed", [b"\x1f\x8bno gzip at all", b"\x28\xb5\x2f\xfd...", b"BZh91AY"])
def test_what_cannot_be_unpacked_is_not_read_as_text(packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(packed)
    with path.open("rb", buffering=0) as stream, pytest.raises(OSError, match="packed"):
        list(chunks(stream))


class Follower:
    """Follows a file in a thread-free way: each wake hands the test one step."""

    def __init__(self, path: Path) -> None:
        self.stop = threading.Event()
        self._pieces: Iterator[bytes | None] = follow(path, self.stop)

    def until_quiet(self) -> bytes:
        """All that is there now."""
        data = b""
        for piece in self._pieces:
            if piece is None:
                return data
            data += piece
        return data

    def until(self, wanted: bytes) -> bytes:
        data = b""
        for _ in range(40):
            data += self.until_quiet()
            if wanted in data:
                return data
        raise AssertionError(f"{wanted!r} did not come, only {data!r}")


def test_follow_reads_growth_rotation_and_truncation(tmp_path: Path) -> None:
    path = tmp_path / "rank.log"
    follower = Follower(path)
    assert follower.until_quiet() == b""  # not there yet
    path.write_bytes(b"one\n")
    assert follower.until(b"one\n") == b"one\n"
    with path.open("ab") as stream:
        stream.write(b"two\n")
    assert follower.until(b"two") == b"two\n"
    with path.open("ab") as stream:
        stream.write(b"last words\n")
    path.rename(tmp_path / "rank.log.1")
    path.write_bytes(b"new file\n")
    assert follower.until(b"new file") == b"last words\nnew file\n"
    path.write_bytes(b"cut\n")
    assert follower.until(b"cut") == b"cut\n"
    follower.stop.set()
    assert follower.until_quiet() == b""


def test_follow_says_that_a_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        next(follow(tmp_path / "nowhere" / "x.log", threading.Event()))
