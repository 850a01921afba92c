"""What the console costs beside a real job: a recording's events, played as they came.

``python -m benchmarks.console_live [--recording FILE] [--json FILE]``

The shipped recording is a job of four H200s at 52 frames a second. Only its steady stretch counts,
from the first block of its second clip to its last. Nothing is measured of an engine or a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.console import drain, hardware, spawn, versions
from benchmarks.ending import leaving_nothing
from engine.messages import BlockDone, Event
from engine.telemetry.recording import open_recording

SHIPPED = Path(__file__).resolve().parents[1] / "sample_data/recordings/tpp-four-gpus.zip"
SIZES = ((200, 50), (120, 40), (80, 24))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recording", type=Path, default=SHIPPED)
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.recording, args.child)
        return 0
    result: dict[str, Any] = {
        "command": "python -m benchmarks.console_live",
        "hardware": hardware(), "versions": versions(), "rows": [],
    }  # fmt: skip
    for size in SIZES:
        result["rows"].append(row := {"size": f"{size[0]}x{size[1]}", **measured(args, size)})
        print(row, flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def measured(args: argparse.Namespace, size: tuple[int, int]) -> dict[str, Any]:
    """One console in a terminal of its own, while the recording's job works."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        line = [sys.executable, "-m", "benchmarks.console_live", "--recording", str(args.recording)]
        process, master = spawn([*line, "--child", str(out)], size)
        reader = drain(master)
        process.wait(timeout=180)
        os.close(master)
        reader.join(1)
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def child(recording: Path, out: Path) -> None:
    """The console itself, and beside it who plays."""
    from console.app import AvatopApp
    from tests.console.fake_client import FakeClient

    events = [shown.event for shown in open_recording(recording).events()]
    blocks = [event.t for event in events if isinstance(event, BlockDone)]
    steady, end = blocks[4], blocks[-1]
    client = FakeClient()
    app = AvatopApp(client)

    def play() -> None:
        time.sleep(0.5)
        begun, first = time.time(), steady - 2.0
        client.play([_at(e, e.t + begun - first) for e in events if e.t < first])
        marks = []
        for event in events:
            if not first <= event.t <= end:
                continue
            if event.t >= steady and not marks:
                marks.append(_spent(app))
            time.sleep(max(begun + event.t - first - time.time(), 0))
            client.play([_at(event, event.t + begun - first)])
        marks.append(_spent(app))
        (cpu, sent), (cpu_after, sent_after) = marks
        seconds = end - steady
        told = {
            "seconds": round(seconds, 1),
            "events_per_second": round(sum(steady <= e.t <= end for e in events) / seconds, 1),
            "cpu_ms_per_second": round((cpu_after - cpu) * 1000 / seconds, 1),
            "bytes_per_second": round((sent_after - sent) / seconds),
        }
        out.write_text(json.dumps(told))
        app.call_from_thread(app.exit)

    threading.Thread(target=play, daemon=True).start()
    app.run()


def _at(event: Event, t: float) -> Event:
    return dataclasses.replace(event, t=t)


def _spent(app: Any) -> tuple[float, int]:
    return time.process_time(), app.bytes_written


if __name__ == "__main__":
    raise SystemExit(leaving_nothing(main))
