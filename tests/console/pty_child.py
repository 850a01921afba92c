"""The console on a scripted engine in a pty; reports from the engine's side to a file.

The engine side goes on for some time after the console has left, as a job that finishes would.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from console.app import AvatopApp
from engine.messages import LogLine
from tests.console.fake_client import FakeClient, Stage


def main() -> None:
    report = Path(sys.argv[1])
    client = FakeClient()
    stage = Stage(gpus=2, started=time.time() - 30)
    app = AvatopApp(client)
    state: dict[str, object] = {"events": 0, "longest_put": 0.0}
    over = threading.Event()

    def tell(**more: object) -> None:
        writer = getattr(app._driver, "writer", None)
        state.update(
            skipped=writer.skipped if writer else 0, stalled=bool(writer and writer.stalled),
            drained=drained[0], **more,
        )  # fmt: skip
        partial = report.with_suffix(".part")
        partial.write_text(json.dumps(state), encoding="utf-8")
        partial.replace(report)

    drained = [0]
    drain = app.mailbox.drain

    def counted() -> list[object]:
        drained[0] += 1
        return drain()  # type: ignore[return-value]

    app.mailbox.drain = counted  # type: ignore[method-assign, assignment]

    def engine() -> None:
        while not client.listeners:
            time.sleep(0.01)
        client.play(stage.history(30))
        for n in range(2000):
            if over.wait(0.02):
                break
            lines = 30 if n > 40 else 1  # quiet first, then a flood
            begun = time.monotonic()
            noise = "".join(chr(33 + (n * 7 + k * 13) % 90) for k in range(90))
            client.play([LogLine(level="INFO", source="engine", text=f"tick {n} {noise}")] * lines)
            os.write(1, b"\x1b[2Jraw from C\n")
            client.play(stage.tick(stage.started + 31 + n))
            if n % 3 == 0 and lines > 1:
                # Everything at once, so that a terminal that does not read fills up soon.
                with contextlib.suppress(RuntimeError):
                    app._loop and app._loop.call_soon_threadsafe(app.action_redraw)
            state["events"] = n
            state["longest_put"] = max(float(str(state["longest_put"])), time.monotonic() - begun)
            tell()

    worker = threading.Thread(target=engine, daemon=True)
    worker.start()
    leave = app.run()
    if leave.reason == "terminal_gone":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        print("nobody reads this, and it must not fail")
        before = int(str(state["events"]))
        while int(str(state["events"])) < before + 5:
            time.sleep(0.01)
    over.set()
    worker.join(10)
    tell(finished=True, reason=leave.reason)
    if leave.reason != "terminal_gone":
        print(f"left: {leave.reason}")


if __name__ == "__main__":
    main()
