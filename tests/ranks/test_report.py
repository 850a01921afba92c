"""Do reports arrive whole, in order, and without holding up the work?"""

from __future__ import annotations

import socket
import threading

import pytest
import torch

from engine.ranks.onrank.failure import kind_of
from engine.ranks.onrank.report import Control, Lines, Reporter, start_reader
from engine.ranks.protocol import Order, Report, decode, encode


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def reports(theirs: socket.socket, until: str) -> list[Report]:
    lines = Lines(theirs)
    found = []
    while True:
        line = lines.read()
        assert line is not None
        message = decode(line)
        assert isinstance(message, Report)
        if message.kind != "heartbeat":
            found.append(message)
        if message.kind == until:
            return found


def test_reports_arrive_in_order(ends):
    report = Reporter(ends[0], 3)
    for step in range(500):
        report.send("step", step=step, block=0, seconds=0.0)
    report.phase("ended")
    got = reports(ends[1], "phase")
    assert [r.data["step"] for r in got[:-1]] == list(range(500))
    assert {r.rank for r in got} == {3}
    assert report.close()


def test_waiting_ledgers_merge_and_nothing_else_is_lost(ends):
    ours, theirs = ends
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    report = Reporter(ours, 0, queue_limit=50)
    done = threading.Event()

    def work() -> None:
        for n in range(3000):  # nobody reads yet: the socket fills, then the queue
            peak = 10_000 if n == 2990 else n
            report.send(
                "ledger", by_owner={"kv": n}, peak_by_owner={"kv": peak}, total=n, peak=peak
            )
        done.set()
        for n in range(200):
            report.send("step", step=n, block=0, seconds=0.0)
        report.phase("ended")

    worker = threading.Thread(target=work)
    worker.start()
    assert done.wait(20), "ledger reports must never wait for the engine"
    got = reports(theirs, "phase")
    worker.join(20)
    ledgers = [r.data for r in got if r.kind == "ledger"]
    assert len(ledgers) < 3000
    assert ledgers[-1]["by_owner"] == {"kv": 2999}
    assert max(d["peak_by_owner"]["kv"] for d in ledgers) == 10_000
    assert max(d["peak"] for d in ledgers) == 10_000
    assert [r.data["step"] for r in got if r.kind == "step"] == list(range(200))
    assert report.close()


def test_a_lost_engine_is_noticed_by_writer_and_reader(ends):
    ours, theirs = ends
    lost = threading.Semaphore(0)
    report = Reporter(ours, 0, heartbeat=0.01, on_lost=lost.release)
    start_reader(Lines(ours), Control(), report, on_lost=lost.release)
    theirs.close()
    assert lost.acquire(timeout=10)
    assert lost.acquire(timeout=10)
    assert not report.close()
    report.send("step", step=0, block=0, seconds=0.0)  # returns, though nobody will read it


def test_orders_are_obeyed_and_nonsense_is_told(ends):
    ours, theirs = ends
    control = Control()
    report = Reporter(ours, 0)
    start_reader(Lines(ours), control, report, on_lost=lambda: None)
    theirs.sendall(b"garbage\n" + encode(Order("spike_threshold", {"bytes": "many"})))
    theirs.sendall(
        encode(Order("spike_threshold", {"bytes": 5})) + encode(Order("stop_after_clip"))
    )
    assert control.stop_after_clip.wait(10)
    assert control.spike_threshold == 5
    report.phase("ended")
    texts = [r.data["text"] for r in reports(theirs, "phase") if r.kind == "log"]
    assert len(texts) == 2
    assert report.close()


class Damaged(Exception):
    kind = "bad_checkpoint"


def chained() -> Exception:
    try:
        try:
            raise MemoryError
        except MemoryError as inner:
            raise RuntimeError("while loading layer 3") from inner
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Damaged("shard 2"), "bad_checkpoint"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (chained(), "oom"),
        (torch.distributed.DistBackendError("NCCL"), "comm"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), "comm"),
        (ValueError("x"), "other"),
    ],
)
def test_failures_are_sorted_by_kind(error, kind):
    assert kind_of(error) == kind
