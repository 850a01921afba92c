"""The terminal and the file descriptors around it.

Three things go wrong with a terminal while work runs: it stops reading (a stalled ssh session), it
goes away (hang-up), and libraries write over it through file descriptors 1 and 2. Here: a driver
whose writes never block and that notices a hang-up, and a capture that turns those two descriptors
into log lines while the UI draws on a descriptor of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
import sys
import threading
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from textual._xterm_parser import XTermParser
from textual.constants import ESCAPE_DELAY
from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App

BACKLOG: Final = 256 * 1024  # characters that wait for the terminal before frames are skipped
CHUNK: Final = 4096  # bytes offered to the terminal at once; ptys take about that much
LOOK: Final = 100  # milliseconds after which the rest of a sequence of keys is looked for
ROUNDS: Final = int(ESCAPE_DELAY * 1000) // LOOK + 2  # of these until none can be outstanding
LEAVE_SECONDS: Final = 1.0  # how long leaving waits for the terminal to take the last bytes


# ---------------------------------------------------------------------------------------------
# Writing without ever waiting


class SteadyWriter:
    """Takes frames from the UI and gives them to the terminal as fast as that takes them.

    ``write`` never blocks. When more than ``BACKLOG`` waits, whole frames are dropped until the
    terminal has taken everything; then ``recovered`` is called, on this writer's thread, so that
    the UI paints afresh.
    """

    def __init__(self, fd: int, recovered: Callable[[], None], gone: Callable[[], None]) -> None:
        self._fd, self._owned = _own_description(fd)
        self._recovered = recovered
        self._gone = gone
        self._queue: deque[bytes] = deque()
        self._pending = 0
        self._wakeup = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="terminal-writer", daemon=True)
        self.stalled = False
        self.skipped = 0  # frames dropped, ever
        self.written = 0  # bytes the terminal took, ever

    def start(self) -> None:
        self._thread.start()

    def write(self, text: str) -> None:
        if self.stalled:
            self.skipped += 1
            return
        data = text.encode("utf-8", "replace")
        with self._wakeup:
            if self.stalled or self._stopping.is_set():
                self.skipped += 1
                return
            if self._pending + len(data) > BACKLOG and self._queue:
                self.stalled = True
                self.skipped += 1
                return
            self._queue.append(data)
            self._pending += len(data)
            self._wakeup.notify()

    def flush(self) -> None:
        """Nothing to do; the thread writes at once."""

    def stop(self) -> None:
        """End the thread; waits a moment for the last bytes, not for a stalled terminal."""
        self._stopping.set()
        with self._wakeup:
            self._wakeup.notify()
        self._thread.join(LEAVE_SECONDS)
        if self._owned and not self._thread.is_alive():
            self._owned = False
            os.close(self._fd)

    def _run(self) -> None:
        try:
            while (data := self._take()) is not None:
                self._push(data)
                with self._wakeup:
                    self._pending -= len(data)
                    empty = not self._queue
                    recovered = empty and self.stalled
                    if recovered:
                        self.stalled = False
                if recovered:
                    self._recovered()
        except OSError:
            with self._wakeup:
                self.stalled = True
                self._queue.clear()
            self._gone()

    def _take(self) -> bytes | None:
        with self._wakeup:
            while not self._queue:
                if self._stopping.is_set():
                    return None
                self._wakeup.wait()
            return self._queue.popleft()

    def _push(self, data: bytes) -> None:
        """Write all of ``data``; gives up when asked to stop while the terminal takes nothing."""
        view = memoryview(data)
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while view:
            if not poll.poll(200):
                if self._stopping.is_set():
                    return
                continue
            try:
                taken = os.write(self._fd, view[:CHUNK])
            except BlockingIOError:
                continue
            self.written += taken
            view = view[taken:]


def _own_description(fd: int) -> tuple[int, bool]:
    """A non-blocking descriptor of the same terminal that shares no flags with the shell's."""
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK), True
    except OSError:
        return fd, False


class SteadyDriver(LinuxDriver):
    """Textual's Linux driver with writes that never block, its own descriptor, and a hang-up."""

    #: The terminal the UI draws on; set by :class:`OwnedTerminal` before the app starts.
    tty_fd: int | None = None

    def __init__(
        self,
        app: App[Any],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.writer: SteadyWriter | None = None
        self._suspended = False
        self._out_fd = 2 if self.tty_fd is None else self.tty_fd
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._end = self.exit_event = _End()

    # The Linux driver makes a WriterThread and starts it; through this property the one that is
    # kept and started is a SteadyWriter instead.
    @property  # type: ignore[override]
    def _writer_thread(self) -> SteadyWriter | None:
        return self.writer

    @_writer_thread.setter
    def _writer_thread(self, made: object) -> None:
        fd = self._out_fd
        self.writer = SteadyWriter(fd, self._recovered, self._hung_up) if made else None

    @property
    def stalled(self) -> bool:
        """The terminal does not take what is drawn; drawing more is of no use."""
        return self.writer is not None and self.writer.stalled

    def _get_terminal_size(self) -> tuple[int, int]:
        for fd in (self._out_fd, self.fileno):
            try:
                width, height = os.get_terminal_size(fd)
            except OSError:
                continue
            if width and height:
                return width, height
        return 80, 24

    def _recovered(self) -> None:
        self._tell(getattr(self._app, "terminal_recovered", None))

    def _hung_up(self) -> None:
        self._tell(getattr(self._app, "terminal_gone", None))

    def _tell(self, callback: Callable[[], None] | None) -> None:
        if callback is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(callback)

    def suspend_application_mode(self) -> None:
        """Leave the terminal to the shell; ``close`` is for good."""
        self.stop_application_mode()
        if self.writer is not None:
            self.writer.stop()
        self._suspended = True

    def resume_application_mode(self) -> None:
        """The shell gave the terminal back, also after a SIGSTOP that nobody could prepare for."""
        if not self._suspended:
            self.suspend_application_mode()
        self._suspended = False
        super().resume_application_mode()
        self._recovered()

    def _sigcont_application(self, *signal_and_frame: object) -> None:
        """Of SIGCONT: in the background (``bg``) there is no terminal to draw on, so stop again."""
        with contextlib.suppress(OSError):  # no terminal at all: nothing to wait for
            if os.tcgetpgrp(self.fileno) != os.getpgrp():
                os.kill(os.getpid(), signal.SIGSTOP)
                return
        super()._sigcont_application(*signal_and_frame)

    def run_input_thread(self) -> None:
        """Read keys until told to end. A hang-up ends it too; Textual's own would spin or panic.

        Nor does it look ten times a second for keys that nobody presses: only after a key, as that
        may have been the beginning of a longer sequence.
        """
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        poll.register(self._end.fd, select.POLLIN)
        self._end.drain()
        rounds = 0  # that are still waited for the rest of a sequence
        while not self.exit_event.is_set():
            ready = {fd for fd, _mask in poll.poll(LOOK if rounds else None)}
            rounds = max(rounds - 1, 0)
            if self.fileno in ready:
                rounds = ROUNDS
                try:
                    data = os.read(self.fileno, 4096)
                except InterruptedError:
                    continue
                except OSError:
                    data = b""
                if not data:
                    self._hung_up()
                    return
                for message in parser.feed(decode(data)):
                    self.process_message(message)
            for message in parser.tick():
                self.process_message(message)

    def close(self) -> None:
        super().close()
        self._end.close()


class _End(threading.Event):
    """An event that a poll can wait for as well: by ``fd``, readable once it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.fd, self._ring = os.pipe()
        os.set_blocking(self.fd, False)

    def set(self) -> None:
        super().set()
        if self._ring >= 0:
            os.write(self._ring, b".")

    def drain(self) -> None:
        """Forget that it was set before."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def close(self) -> None:
        ends, self.fd, self._ring = (self.fd, self._ring), -1, -1
        for fd in ends:
            if fd >= 0:
                os.close(fd)


# ---------------------------------------------------------------------------------------------
# Owning file descriptors 1 and 2

Sink = Callable[[str, str], None]  # (stream name, line)


class OwnedTerminal:
    """File descriptors 1 and 2 become pipes whose lines go to ``sink``; the UI keeps the terminal.

    The reading thread never stops, so no writer ever waits. On exit both descriptors return to the
    terminal, or to ``/dev/null`` when ``gone`` was set because there is none any more.
    """

    LONGEST: Final = 64 * 1024  # bytes of one line

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._saved: dict[int, int] = {}
        self._pipes: dict[int, str] = {}
        self._thread: threading.Thread | None = None
        self.gone = False
        self.tty_fd: int | None = None

    def __enter__(self) -> OwnedTerminal:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        self._saved = {fd: os.dup(fd) for fd in (1, 2)}
        self.tty_fd = next((self._saved[fd] for fd in (2, 1) if os.isatty(self._saved[fd])), None)
        for fd, name in ((1, "stdout"), (2, "stderr")):
            read, write = os.pipe()
            os.dup2(write, fd)
            os.close(write)
            self._pipes[read] = name
        self._thread = threading.Thread(target=self._read, name="fd-capture", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        for fd, saved in self._saved.items():
            if self.gone:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, fd)
                os.close(null)
            else:
                os.dup2(saved, fd)
            os.close(saved)
        self._saved = {}
        if self._thread is not None:
            # A child may still hold the pipes' other ends: do not wait for it.
            self._thread.join(0.5)

    def _read(self) -> None:
        poll = select.poll()
        rest: dict[int, bytes] = {}
        for fd in self._pipes:
            poll.register(fd, select.POLLIN)
            rest[fd] = b""
        open_fds = set(self._pipes)
        while open_fds:
            for fd, _mask in poll.poll():
                try:
                    data = os.read(fd, 65536)
                except OSError as error:
                    if error.errno in (errno.EINTR, errno.EAGAIN):
                        continue
                    data = b""
                name = self._pipes[fd]
                *lines, rest[fd] = (rest[fd] + data).split(b"\n")
                if not data or len(rest[fd]) > self.LONGEST:
                    lines.append(rest[fd])
                    rest[fd] = b""
                for line in lines:
                    if line.strip():
                        self._sink(name, line.decode("utf-8", "replace").rstrip("\r"))
                if not data:
                    poll.unregister(fd)
                    os.close(fd)
                    open_fds.discard(fd)


@contextlib.contextmanager
def signals(
    loop: asyncio.AbstractEventLoop, handlers: Mapping[signal.Signals, Callable[[], None]]
) -> Iterator[None]:
    """Handle signals on the loop while open, and give them back as they were."""
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            loop.remove_signal_handler(number)
            if old is not None:
                signal.signal(number, old)
