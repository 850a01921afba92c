"""A terminal that stalls, goes away, or is written over: the engine's side must not notice."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from console.symbols import shows_unicode
from console.terminal import BACKLOG, OwnedTerminal, SteadyWriter

ROOT = Path(__file__).resolve().parents[2]
CHILD = ROOT / "tests" / "console" / "pty_child.py"
LIMIT = 30.0

pytestmark = pytest.mark.pty


class Terminal:
    """A real pty with the console in it; this side is the terminal."""

    def __init__(self, report: Path, size: tuple[int, int] = (100, 30)) -> None:
        self.report_path = report
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor",
                   "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}  # fmt: skip
        for name in ("NO_COLOR", "AVATOP_ASCII", "AVATOP_THEME"):
            environ.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), str(report)], stdin=slave, stdout=slave, stderr=slave,
            env=environ, cwd=ROOT, preexec_fn=lambda: _own_terminal(),
        )  # fmt: skip
        os.close(slave)
        self.seen = b""

    def read_until(self, found: Callable[[bytes], bool]) -> bytes:
        """Read as a terminal does until ``found`` is true of everything read."""
        until = time.monotonic() + LIMIT
        while not found(self.seen):
            assert time.monotonic() < until, self.seen[-2000:].decode("utf-8", "replace")
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    break
        return self.seen

    def warm(self) -> None:
        """Read until the console is up and the engine's side is at work."""
        self.read_until(lambda seen: b"help" in seen and int(str(self.said().get("events", 0))) > 5)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def said(self) -> dict[str, object]:
        """What the child's engine side said last."""
        try:
            said: dict[str, object] = json.loads(self.report_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"stalled": True}
        return said

    def report(self, ready: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        """What the child's engine side says, once it says what is waited for."""
        until = time.monotonic() + LIMIT
        latest: dict[str, object] = {}
        while time.monotonic() < until:
            latest = self.said()
            if len(latest) > 1 and ready(latest):
                return latest
            select.select([], [], [], 0.05)
        raise AssertionError(f"the child never got there: {latest}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        if self.master >= 0:
            os.close(self.master)


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path / "report.json")
    yield opened
    opened.close()


def test_keys_in_pictures_out_and_the_terminal_is_left_clean(terminal: Terminal) -> None:
    terminal.warm()
    terminal.press(b"q")
    terminal.read_until(lambda seen: b"Stay here" in seen)
    terminal.press(b"\x1b[A\r")
    terminal.read_until(lambda seen: b"left: cancelled" in seen)
    terminal.process.wait(LIMIT)
    assert terminal.process.returncode == 0
    assert b"\x1b[?1049l" in terminal.seen
    assert terminal.seen.rindex(b"left: cancelled") > terminal.seen.rindex(b"\x1b[?1049l")


def test_raw_writes_to_the_file_descriptors_become_log_lines(terminal: Terminal) -> None:
    terminal.read_until(lambda seen: b"raw from C" in seen)
    assert b"\x1b[2Jraw" not in terminal.seen


def test_a_stalled_terminal_stalls_nothing_and_is_repainted(terminal: Terminal) -> None:
    terminal.warm()
    # The terminal stops reading. The child floods the screen until its writer skips frames.
    stalled = terminal.report(lambda r: int(r["skipped"]) > 0)  # type: ignore[call-overload]
    events, pictures = int(stalled["events"]), int(stalled["drained"])  # type: ignore[call-overload]
    later = terminal.report(
        lambda r: int(r["events"]) > events + 40 and int(r["drained"]) > pictures + 20  # type: ignore[call-overload]
    )
    assert float(later["longest_put"]) < 1.0  # type: ignore[arg-type]
    # It reads again: the present is painted in full, first row to last.
    terminal.seen = b""
    terminal.read_until(lambda seen: len(seen) > BACKLOG // 2 and not terminal.said()["stalled"])
    terminal.seen = b""
    terminal.read_until(lambda seen: b"avatop" in seen and b"help" in seen)
    assert int(terminal.said()["events"]) > events  # type: ignore[call-overload]


def test_a_hang_up_ends_the_console_and_not_the_work(terminal: Terminal) -> None:
    terminal.warm()
    os.close(terminal.master)
    terminal.master = -1
    report = terminal.report(lambda r: r.get("finished") is True)
    assert report["reason"] == "terminal_gone"
    terminal.process.wait(LIMIT)
    assert terminal.process.returncode == 0


def test_the_shell_gets_the_terminal_and_sigterm_leaves_it_clean(terminal: Terminal) -> None:
    terminal.warm()
    for stop in (
        lambda: terminal.press(b"\x1a"),
        lambda: terminal.process.send_signal(signal.SIGSTOP),
    ):
        stop()
        assert os.WIFSTOPPED(os.waitpid(terminal.process.pid, os.WUNTRACED)[1])
        terminal.seen = b""
        terminal.process.send_signal(signal.SIGCONT)  # the shell's fg: painted in full
        terminal.read_until(lambda seen: b"\x1b[?1049h" in seen and b"help" in seen)
    terminal.process.send_signal(signal.SIGTERM)
    terminal.read_until(lambda seen: b"left: terminated" in seen)
    assert b"\x1b[?1049l" in terminal.seen


def test_the_writer_never_blocks_and_recovers() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    recovered = threading.Event()
    writer = SteadyWriter(write, recovered.set, lambda: None)
    writer.start()
    for _ in range(40):
        writer.write("x" * 65536)
    assert writer.stalled
    assert writer.skipped > 0
    while not recovered.is_set():
        if select.select([read], [], [], 0.01)[0]:  # the last of it may have been read already
            assert os.read(read, 1 << 20)
    writer.write("the present")
    seen = b""
    while b"the present" not in seen:
        seen += os.read(read, 1 << 20)
    writer.stop()
    os.close(read)
    os.close(write)


def test_a_writer_whose_terminal_is_gone_says_so_once() -> None:
    read, write = os.pipe()
    os.close(read)
    gone = threading.Event()
    writer = SteadyWriter(write, lambda: None, gone.set)
    writer.start()
    writer.write("x")
    assert gone.wait(LIMIT)
    writer.write("y")
    writer.stop()
    os.close(write)


def test_owned_descriptors_return_as_they_were(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from console.terminal import OwnedTerminal\n"
        "lines = []\n"
        "with OwnedTerminal(lambda s, t: lines.append((s, t))):\n"
        "    os.write(1, b'one\\ntw'); os.write(1, b'o\\n'); os.write(2, b'bad \\xff\\n')\n"
        "    os.write(2, b'y' * 200000 + b'\\n'); print('python', flush=True)\n"
        "print([x for x in lines if len(x[1]) < 20])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=LIMIT, check=True
    )
    out = done.stdout.decode()
    for expected in (
        "('stdout', 'one')",
        "('stdout', 'two')",
        "('stdout', 'python')",
        "'bad \ufffd'",
    ):
        assert expected in out
    assert OwnedTerminal.LONGEST < 200000


@pytest.mark.parametrize(("environ", "encoding", "shows"), [
    ({"TERM": "xterm"}, "UTF-8", True), ({"TERM": "linux"}, "UTF-8", False),
    ({"TERM": "dumb"}, "UTF-8", False), ({"TERM": "xterm"}, "ANSI_X3.4-1968", False),
    ({"TERM": "xterm", "AVATOP_ASCII": "1"}, "utf8", False),
])  # fmt: skip
def test_where_braille_can_be_shown(environ: dict[str, str], encoding: str, shows: bool) -> None:
    assert shows_unicode(environ, encoding) is shows
