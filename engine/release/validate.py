"""R3: may this version be rolled out at all?

Ready in time, output that holds, a client's round trip, high resolution under the cap; and R4's
gates armed by stable against itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.checkpoint.layout import read_json
from engine.client import EngineClient
from engine.media.check import check_output
from engine.messages import GateRow
from engine.release import gates, snapshot
from engine.release.evidence import Evidence
from engine.release.gates import Sample
from engine.release.inputs import Sizes, fixed_inputs, sizes
from engine.release.model import Release
from engine.release.player import Played, Player
from engine.release.settings import Settings
from engine.release.stats import ERROR, FAIL, FALSE_FAILS, INCONCLUSIVE, PASS
from engine.sentence import joined, sentence

#: Problems of a finished video, a clause each; empty when it is as it must be.
Verify = Callable[[Path], Sequence[str]]
#: A benchmark of two versions' environments, or None where there is nothing to communicate.
Bench = Callable[[tuple[Release, Release]], Awaitable[list[Sample] | None]]
#: A client that comes in from outside, or None where the engine has no door.
Door = Callable[[], EngineClient | None]

#: About the sound that was given, not the picture that was made.
_NOT_OURS: Final = frozenset({"silent", "av_offset"})


def verify_video(path: Path) -> Sequence[str]:
    """Look at every frame of a video."""
    found = check_output(path, every_frame=True).findings
    return [f.text for f in found if f.level == "error" and f.kind not in _NOT_OURS]


@dataclass(frozen=True)
class Tools:
    """What a validation works with."""

    player: Player
    evidence: Evidence
    settings: Settings
    bench: Bench
    door: Door
    verify: Verify


async def validate(
    tools: Tools,
    release: Release,
    stable: Release | None,
    hardware: str,
    drills: Mapping[str, Mapping[str, Any]],
) -> tuple[str, tuple[GateRow, ...]]:
    """Every check and the A/A run; ("passed" | "failed" | "inconclusive", a row each)."""
    config = read_json(Path(str(release.model["ckpt_dir"])) / "config.json")
    size = sizes(tools.settings, config)
    rows = [await _as_added(release)]
    rows += await _clips(tools, release, size)
    rows.append(await _round_trip(tools, release, size))
    rows.append(await _high(tools, release, size))
    rows += [_drill(name, result) for name, result in sorted(drills.items())]
    verdicts = {row.verdict for row in rows}
    state = "failed" if FAIL in verdicts else "passed" if verdicts == {PASS} else "inconclusive"
    if stable is not None and state != "failed":
        rows += await _arm(tools, stable, hardware, size)
    return state, tuple(rows)


async def _as_added(release: Release) -> GateRow:
    """Files and environment are still those of the digest."""
    changed = await asyncio.to_thread(release.changed)
    now = await asyncio.to_thread(snapshot.environment_now, release.environment)
    found = [changed] if changed else snapshot.differences(release.environment, now)
    note = sentence("not as it was added: {found}", found=joined(found[:5])) if found else ""
    return check("as added", not found, note=note)


async def _clips(tools: Tools, release: Release, size: Sizes) -> list[GateRow]:
    first = fixed_inputs(tools.settings)[0]
    played = await tools.player.play(release, {**first.request(), **size.clips}, "check")
    limit, took = tools.settings.ready_seconds, played.ready_seconds
    ready = check(
        "ready",
        took is not None and took <= limit,
        unit="s",
        value=took,
        allowed=limit,
        jobs=_job(played),
        note=""
        if took is not None
        else sentence("it never began to work: {error}", error=played.error),
    )
    clips = size.clips["num_clip"]
    problems = await _problems(tools, played)
    said = _scaled(sentence("{clips} clips of {size}", clips=clips, size=size.clips["size"]), size)
    if problems:
        said = sentence("{what}: {why}", what=said, why=joined(problems))
    output = check("clips", not problems, jobs=_job(played), note=said)
    return [ready, output]


async def _round_trip(tools: Tools, release: Release, size: Sizes) -> GateRow:
    """Submitted by a client from outside, waited for, its result fetched."""
    first = fixed_inputs(tools.settings)[0]
    client = await asyncio.to_thread(tools.door)
    request = {**first.request(), **size.trip}
    if client is None:
        played = await tools.player.play(release, request, "check")
        note = sentence("through the engine's own client: it has no socket here")
    else:
        with contextlib.closing(client):
            played = await tools.player.through(client).play(release, request, "check")
        note = sentence("through the engine's socket")
    problems = await _problems(tools, played)
    text = joined([note, *problems])
    return check("round trip", not problems, jobs=_job(played), note=text)


async def _high(tools: Tools, release: Release, size: Sizes) -> GateRow:
    first = fixed_inputs(tools.settings)[0]
    played = await tools.player.play(release, {**first.request(), **size.high}, "check")
    cap = release.memory_cap or _usable(played)
    peak = played.row.peak_bytes if played.row else None
    told = sentence("{size}, {clips} clips", size=size.high["size"], clips=size.high["num_clip"])
    said = _scaled(told, size)
    if not played.ok:
        note = sentence("{what}: {why}", what=said, why=played.error)
        return check("high resolution", False, jobs=_job(played), note=note)
    if cap is None or peak is None:
        note = sentence("{what}: no cap is set and no device tells its memory", what=said)
        return check("high resolution", None, jobs=_job(played), value=peak, unit="B", note=note)
    limit = (
        sentence("limit: the release's cap")
        if release.memory_cap
        else sentence("limit: no cap is set: the device's memory")
    )
    return check("high resolution", peak <= cap, unit="B", value=float(peak), allowed=float(cap),
                 jobs=_job(played), note=joined((said, limit)))  # fmt: skip


async def _arm(tools: Tools, stable: Release, hardware: str, size: Sizes) -> list[GateRow]:
    """Stable against itself, once for each hardware."""
    known = tools.evidence.arming(hardware, stable.digest)
    if "time_per_clip" not in known:
        settings = tools.settings
        samples = await tools.player.pairs(
            (stable, stable), fixed_inputs(settings), size.paired, "a/a", settings,
            settings.stages[0].placement if settings.stages[0].paired else None,
        )  # fmt: skip
        found = list(gates.arm(samples, settings))
        bench = await tools.bench((stable, stable))
        if bench is not None:
            found.append(gates.arm_communication(bench, settings))
        tools.evidence.set_arming(hardware, stable.digest, found)
        known = {one.gate: one for one in found}
    return [
        GateRow(
            gate=f"a/a {one.gate}",
            unit="",
            baseline=None,
            candidate=one.rate,
            deviation=None,
            low=None,
            high=None,
            allowed=FALSE_FAILS,
            n=one.n,
            verdict=PASS if one.armed else INCONCLUSIVE,
            armed=one.armed,
            note=sentence("how often noise alone fails it")
            if one.armed
            else sentence("too few runs, or too noisy"),
        )
        for one in known.values()
    ]


async def _problems(tools: Tools, played: Played) -> list[str]:
    if not played.ok or played.row is None:
        return [str(played.error)]
    output = Path(str(played.row.output))
    found = await asyncio.to_thread(tools.verify, output)
    await asyncio.to_thread(output.unlink, missing_ok=True)
    return list(found)


def _usable(played: Played) -> int | None:
    devices = (played.plan or {}).get("devices") or ()
    known = [d.get("usable_bytes") or d.get("capacity_bytes") for d in devices]
    return min((int(size) for size in known if size), default=None)


def _drill(name: str, result: Mapping[str, Any]) -> GateRow:
    """A fault drill's own word: recovered, nothing lost, nothing left; or why there is none."""
    error = result.get("error")
    if error:
        return check(f"drill {name}", None, note=str(error))
    notes = "; ".join(map(str, result.get("notes", ())))
    if "recovered" in result and result["recovered"] is None:  # it cannot be made on this host
        return check(f"drill {name}", None, note=notes)
    lost = [*result.get("lost", ()), *result.get("leftover_pids", ())]
    good = bool(result.get("recovered")) and not (lost or result.get("leftover_shm"))
    return check(f"drill {name}", good, unit="s", value=result.get("recovery_seconds"), note=notes)


def check(
    name: str,
    good: bool | None,
    *,
    unit: str = "",
    value: float | None = None,
    allowed: float | None = None,
    jobs: tuple[int, ...] = (),
    note: str = "",
) -> GateRow:
    """A yes-or-no gate; None: it could not be found out."""
    said = ERROR if good is None else PASS if good else FAIL
    return GateRow(
        gate=name, unit=unit, baseline=None, candidate=value, deviation=None, low=None, high=None,
        allowed=allowed, n=1 if good is not None else 0, verdict=said, armed=True, jobs=jobs,
        note=note,
    )  # fmt: skip


def _job(played: Played) -> tuple[int, ...]:
    return () if played.row is None else (played.row.id,)


def _scaled(told: str, size: Sizes) -> str:
    if size.scale == 1:
        return told
    return sentence(
        "{what}, scaled to this checkpoint's width ({scale:.3f})", what=told, scale=size.scale
    )
