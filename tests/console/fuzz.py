"""What fuzzing needs: a terminal that remembers what it was sent, hostile words everywhere."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pyte
from textual.app import App
from textual.drivers.headless_driver import HeadlessDriver

from engine.messages import (
    AlertChanged,
    Audited,
    BatchChanged,
    CheckpointChanged,
    DeviceReading,
    DevicesSampled,
    EngineStarted,
    Event,
    FindingRaised,
    JobChanged,
    LogLine,
    PlanChanged,
    ProcessClass,
    ProcessesSurveyed,
    RankChanged,
    ReleaseChanged,
    Remedy,
    Spike,
)
from engine.messages.parts import ProcessReading
from tests.console.fake_client import GIB, T0, job
from tests.console.production_events import batch, gate, item

#: What the console itself sends: places, colours, modes, the clipboard.
OURS = re.compile(
    r"\x1b\[\d*(?:;\d+)*m"
    r"|\x1b\[\d+;\d+H"
    r"|\x1b\[\?\d+[hl]"
    r"|\x1b\]52;c;[A-Za-z0-9+/=]*(?:\x07|\x1b\\)"
    r"|\x1b\]22;[a-z-]+(?:\x07|\x1b\\)"
    r"|[\r\n]"
)
CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


class Terminal(HeadlessDriver):
    """A driver whose terminal is an emulator: ``cells`` is what a person would see."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        self.foreign = ""  # the first control character that is not of ours
        width, height = self._get_terminal_size()
        self.screen = pyte.Screen(width, height)
        self.stream = pyte.Stream(self.screen)

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        data = data.encode("utf-8", "replace").decode()
        self.stream.feed(data)
        found = CONTROL.search(OURS.sub("", data))
        if found and not self.foreign:
            self.foreign = repr(OURS.sub("", data)[max(found.start() - 20, 0) : found.end() + 20])

    def resized(self, width: int, height: int) -> None:
        """A window of another size, with rubbish where the old picture was rearranged."""
        self.screen = pyte.Screen(width, height)
        self.stream = pyte.Stream(self.screen)
        self.stream.feed("".join(f"\x1b[{y + 1};1H{'#' * width}" for y in range(height)))

    def cells(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def colours(self) -> list[list[tuple[str, str, bool]]]:
        """Ground, ink and weight of each cell; the ink of blanks cannot be seen."""
        buffer, screen = self.screen.buffer, self.screen
        return [
            [
                (c.bg, c.fg if c.data.strip() else "", c.bold and bool(c.data.strip()))
                for c in (buffer[y][x] for x in range(screen.columns))
            ]
            for y in range(screen.lines)
        ]


_PIECES = (
    "\x1b[2J", "\x1b[31;5m", "\x1b]0;owned\x07", "\x1b]52;c;b3duZWQ=\x07", "\x1b[?1049l",
    "\x1bc", "\x9b2J", "\x00", "\x07", "\x08\x08", "\r", "\t", "\x7f", "[bold red]", "[/]",
    "[link=x]", "{braces}", "{0}", "%s", "\\x1b", "数字人", "アバター", "👩\u200d🚀",
    "❤\ufe0f", "e\u0301\u0327", "\u202egnp.exe", "\u200b", "\u2066", "\ufeff", "مرحبا", "שלום",
    "\udcff\udc80", "\ud83d", "\U000e0001", "\uffff", "../../etc/passwd", "'; DROP TABLE jobs; --",
    " ", "normal", "/data/out.mp4", "\u3000", "𝕏",
)  # fmt: skip


def junk(rng: random.Random, most: int = 6) -> str:
    """Words of somebody who means harm, or of a broken program."""
    return "".join(rng.choice(_PIECES) for _ in range(rng.randint(1, most)))


def hostile(rng: random.Random, number: int = 0) -> Iterator[Event]:
    """One of every kind of event that carries outside text, all its texts junk."""

    def text() -> str:
        return junk(rng)

    def maybe(*values: Any) -> Any:
        return rng.choice((None, *values))

    at = T0 + 20 + number
    yield EngineStarted(host=text(), pid=1, version=text(), device_source="nvml", t=at)
    process = ProcessReading(
        pid=rng.randint(1, 1 << 22), started=T0, user=text(), command=text(), state=text(),
        memory={"GPU-0000": GIB}, job=maybe(17), rank=maybe(0),
    )  # fmt: skip
    reading = DeviceReading(
        index=rng.randint(0, 3), name=text(), uuid=rng.choice(("GPU-0000", text())),
        source="nvml", memory_total=maybe(141 * GIB, 0, -1), memory_used=maybe(GIB, 1 << 60),
        temperature_c=maybe(-5, 1e9, float("nan")), temperature_limit_c=maybe(90),
        utilization=maybe(float("inf"), 55.5), throttle=(text(),), processes=(process,),
        error=maybe(text()), xid=maybe(79), xids=maybe(3), power_w=maybe(0.0, 1e12),
    )  # fmt: skip
    yield DevicesSampled(devices=(reading,), t=at)
    yield RankChanged(job=17, rank=rng.randint(0, 9), pid=1, device=text(), device_uuid=text(),
                      phase=rng.choice(("running", "died", text())), role=text(), reason=text(),
                      t=at)  # fmt: skip
    states = ("queued", "running", "failed", "done", "paused", "interrupted", text())
    name = rng.randint(1, 40)
    yield JobChanged(
        job=job(name, rng.choice(states), mode=text(), size=text(), error=maybe(text()),
                output=maybe(text()), version=maybe(text()), batch=maybe(text()),
                clips=rng.choice((0, 3, 10_000)), fps=maybe(0.0, float("nan"), 1e9),
                eta_seconds=maybe(-1.0, 1e12, float("inf")), peak_bytes=maybe(0, 1 << 62),
                request={"image": text(), "prompt": text()}),
        t=at,
    )  # fmt: skip
    yield PlanChanged(job=17, reason=text(), mode=text(), change=text(), t=at)
    yield Spike(job=17, rank=0, device="cuda:0", owner=text(), bytes=GIB, level=GIB, peak=2 * GIB,
                threshold=1, seconds=0.1, t=at)  # fmt: skip
    for stream in ("stdout", "stderr", None):
        yield LogLine(level=rng.choice(("INFO", "ERROR", text())), source=text(), text=text(),
                      job=maybe(17), rank=maybe(0), stream=stream, where=text(), t=at)  # fmt: skip
    yield AlertChanged(id=text(), rule=text(), severity=rng.choice(("critical", "info", text())),
                       state=rng.choice(("firing", "pending", "resolved", text())),
                       message=text(), since=at, by=maybe(text()), labels={text(): text()},
                       device=maybe("GPU-0000", text()), t=at)  # fmt: skip
    remedy = Remedy(text(), text(), maybe("relaunch", "env", text()), {text(): text()}, (text(),))
    yield FindingRaised(id=text(), finding=text(), severity=rng.choice(("error", text())),
                        cause=text(), role=rng.choice(("root", "victim")), job=maybe(17),
                        evidence=(text(), text()), remedies=(remedy,), t=at)  # fmt: skip
    kinds = ("orphan", "stray", "defunct", "ours", text())
    yield ProcessesSurveyed(
        processes=(ProcessClass(process, rng.choice(kinds), (text(),), maybe(True) or False,
                                maybe(text()), container=maybe(text())),),
        leaked=(text(),), t=at,
    )  # fmt: skip
    yield CheckpointChanged(folder=text(), files=(text(),), jobs=(17,), t=at)
    states = ("waiting", "running", "failed", "done", "alias", text())
    items = tuple(
        item(n, rng.choice(states), name=text(), error=maybe(text()), output=maybe(text()))
        for n in range(rng.randint(0, 5))
    )
    yield batch(items, batch=rng.choice(("b1", "b2", text())), name=text(), note=text(),
                state=rng.choice(("running", "stopped", text())), total=rng.choice((0, 5)),
                eta_seconds=maybe(-3.0, 9e9), t=at)  # fmt: skip
    gates = (
        gate(
            text(),
            rng.choice(("PASS", "FAIL", text())),
            unit=text(),
            note=text(),
            deviation=maybe(float("nan"), 1e9),
            low=maybe(0.1),
            candidate=maybe(1e-9),
        ),
    )
    yield ReleaseChanged(release=rng.choice(("d1", "d2", text())), version=text(),
                         role=rng.choice(("stable", "candidate", "withdrawn", text())),
                         state=rng.choice(("rolling", "paused", text())), stage=maybe(text()),
                         share=rng.choice((0.0, 0.25, 7.0)), gates=gates, note=text(),
                         t=at)  # fmt: skip
    yield Audited(action=text(), by=text(), target=text(), result=text(), t=at)


def huge() -> Iterator[Event]:
    """Lines and names of 10 MB."""
    line = "x\x1b[2J数" * 2_500_000
    yield LogLine(level="ERROR", source="rank", rank=0, text=line, job=17, t=T0 + 30)
    yield JobChanged(job=job(17, "failed", error=line, output=line), t=T0 + 30)
    change = batch((item(1, "failed", name=line, error=line),), name=line, note=line)
    assert isinstance(change, BatchChanged)
    yield change
