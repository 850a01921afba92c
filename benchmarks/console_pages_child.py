"""The console under one load, in the pty that ``benchmarks.console_pages`` made for it.

``--what page`` stands on one page; ``keys`` takes 5,000 log lines a second while somebody types;
``pages`` goes through all pages; ``week`` lives through seven days, a minute at a step.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from console import actions
from console.app import AvatopApp
from engine.messages import Event, LogLine
from tests.console.fake_client import T0, FakeClient, Stage, job
from tests.console.production_events import a_night, a_rollout

DAY = 86_400
STEP = 60  # seconds of the simulated week between two readings


def resident_mb() -> float:
    """Memory that the process holds now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Load:
    """A console, what it is told, and what is measured of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.start = T0 if options.what == "week" else time.time() - 120
        self.stage = Stage(gpus=options.devices, jobs=options.jobs, started=self.start)
        self.client = FakeClient()
        self.moment = [T0]
        clock = (lambda: self.moment[0]) if options.what == "week" else time.time
        self.app = AvatopApp(self.client, clock=clock)
        self.result: Any = None

    def run(self) -> None:
        threading.Thread(target=self._drive, daemon=True).start()
        self.app.run()
        Path(self.options.out).write_text(json.dumps(self.result), encoding="utf-8")

    def _drive(self) -> None:
        time.sleep(0.5)
        self.client.play(self.stage.history(120))
        self.client.play([*a_night(), *a_rollout()])
        time.sleep(1.0)
        try:
            self.result = getattr(self, f"_{self.options.what}")()
        finally:
            self.app.call_from_thread(self.app.exit)

    def _ticks(self) -> Iterator[int]:
        """Once a second, on the second."""
        begun = time.monotonic()
        for at in range(self.options.ticks):
            time.sleep(max(begun + at + 1 - time.monotonic(), 0))
            yield at

    def _page(self) -> list[tuple[float, int]]:
        """CPU seconds and bytes so far, after each tick on one page."""
        self.app.call_from_thread(self.app.action_go, self.options.page)
        time.sleep(1.5)
        future = [self.stage.tick(time.time() + n) for n in range(self.options.ticks)]
        marks = [(time.process_time(), self.app.bytes_written)]
        for at in self._ticks():
            self.client.play(future[at])
            time.sleep(0.6)
            marks.append((time.process_time(), self.app.bytes_written))
        return marks

    def _keys(self) -> dict[str, int]:
        """5,000 lines a second in fifty bursts, until the typist has ended (or time has)."""
        Path(self.options.out).with_suffix(".ready").touch()
        ended = Path(self.options.out).with_suffix(".ended")
        begun, told = time.monotonic(), 0
        while time.monotonic() - begun < self.options.ticks and not ended.exists():
            now = time.time()
            burst: list[Event] = [
                LogLine(level="INFO", source="rank", rank=n % 8, text=f"block {told + n} done",
                        job=17, t=now) for n in range(100)
            ]  # fmt: skip
            if told % 5000 == 0:
                burst += self.stage.tick(now)
            self.client.play(burst)
            told += 100
            time.sleep(max(begun + told / 5000 - time.monotonic(), 0))
        return {"lines": told, "lines_per_second": round(told / (time.monotonic() - begun))}

    def _pages(self) -> dict[str, dict[str, float]]:
        """Milliseconds from asking for a page to its picture: imported and built, and again."""
        out: dict[str, dict[str, float]] = {}
        for word in ("first_ms", "again_ms"):
            for page in (*actions.PAGES[1:], actions.PAGES[0]):
                done = threading.Event()
                begun = time.perf_counter()

                def go(name: str = page.name, done: threading.Event = done) -> None:
                    self.app.action_go(name)
                    self.app.call_after_refresh(done.set)

                self.app.call_from_thread(go)
                done.wait(10)
                took = (time.perf_counter() - begun) * 1000
                out.setdefault(page.name, {})[word] = round(took, 1)
                time.sleep(0.3)
        return out

    def _week(self) -> dict[str, Any]:
        """Memory at the end of each day; a job ends and another begins every ten minutes."""
        from engine.messages import JobChanged

        days, told, number = [], 0, 1000
        begun = time.perf_counter()
        for second in range(0, 7 * DAY, STEP):
            at = T0 + 121 + second
            self.moment[0] = at
            events = self.stage.tick(at)
            if second % 600 == 0:
                number += 1
                events += [
                    JobChanged(job=job(number - 1, "done", ended=at), t=at),
                    JobChanged(job=job(number), t=at),
                    *a_night(),
                ]
            self.client.play(events)
            told += len(events)
            if second % 300 == 0:
                self.app.call_from_thread(self.app._picture)
            if second % DAY == DAY - STEP:
                days.append(round(resident_mb(), 1))
        return {"events": told, "resident_mib_by_day": days, "simulated_step_s": STEP,
                "took_s": round(time.perf_counter() - begun, 1)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--what", choices=("page", "keys", "pages", "week"), required=True)
    parser.add_argument("--page", default="overview")
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--out", required=True)
    Load(parser.parse_args()).run()


if __name__ == "__main__":
    main()
