"""The console with a replayed synthetic event stream; started in a pty by ``benchmarks.console``.

The events are made before the clock starts, so that the CPU time measured is the console's own:
its event handling, drawing, timers and writing.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import threading
import time
from pathlib import Path

from console.app import AvatopApp
from tests.console.fake_client import FakeClient, Stage


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--ticks", type=int, required=True)
    parser.add_argument("--logs", type=int, default=1)
    parser.add_argument("--count", action="store_true", help="Python's calls instead of CPU time")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    now = time.time()
    warm = 120
    stage = Stage(
        gpus=options.devices, jobs=options.jobs, log_rate=options.logs, started=now - warm
    )
    past = stage.history(warm)
    future = [stage.tick(now + 2 + n) for n in range(options.ticks)]
    client = FakeClient()
    app = AvatopApp(client)
    profile = cProfile.Profile()

    def spent() -> tuple[float, int]:
        """CPU seconds, or calls on the console's own thread; bytes that the terminal took."""
        calls = sum(entry.callcount for entry in profile.getstats()) if options.count else 0
        return (calls if options.count else time.process_time()), app.bytes_written

    def play() -> None:
        time.sleep(0.5)
        client.play(past)
        time.sleep(1.5)
        marks = [spent()]
        begun = time.monotonic()
        for n, events in enumerate(future):
            time.sleep(max(begun + n + 1 - time.monotonic(), 0))
            client.play(events)
            time.sleep(0.6)
            marks.append(spent())
        Path(options.out).write_text(json.dumps(marks), encoding="utf-8")
        app.call_from_thread(app.exit)

    threading.Thread(target=play, daemon=True).start()
    if options.count:
        profile.runcall(app.run)
    else:
        app.run()


if __name__ == "__main__":
    main()
