"""Incident bundles: what ``avatop export`` and the incidents page write."""

from __future__ import annotations

import contextlib
import getpass
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from console.version import version
from engine.jobs.paths import Places
from engine.messages import JobRow
from engine.telemetry.recording import Recording
from engine.telemetry.recording_bundle import Bundle, Slice, cut
from engine.telemetry.recording_facts import system_facts
from engine.telemetry.recording_redact import Redactor

#: Is told how far it is (0…1) and what is done now; what it raises ends the work.
Told = Callable[[float, str], None]


def name(moment: float | None = None) -> str:
    """A bundle's file name, after the moment it is made."""
    return time.strftime("avatop-incident-%Y%m%d-%H%M%S.zip", time.localtime(moment))


def make(
    source: Recording,
    first: float,
    last: float,
    path: Path,
    *,
    prompts: bool = False,
    frames: bool = False,
    told: Told = lambda _part, _what: None,
) -> dict[str, Any]:
    """Write what happened from ``first`` to ``last`` (Unix seconds) into one zip, redacted.

    Home folders, user names, secrets, prompts and frames are taken out. Nothing stays behind when
    it fails or ``told`` raises. Returns ``file``, ``bytes`` and the manifest.

    Raises:
        OSError: it cannot be written (``FileExistsError``: it is there already).
    """
    users, homes = myself()
    told(0.0, "recording")
    piece = cut(source, first, last)
    bundle = Bundle(path, Redactor(users, homes, prompts=prompts, frames=frames))
    try:
        manifest = _filled(bundle, source, piece, told)
    except BaseException:
        bundle.discard()
        raise
    return {"file": str(path), "bytes": path.stat().st_size, **manifest}


def _filled(bundle: Bundle, source: Recording, piece: Slice, told: Told) -> dict[str, Any]:
    told(0.3, f"{len(piece.events):,} events")
    bundle.add_slice(piece, source.header())
    places = Places.of()
    told(0.6, "engine.log")
    bundle.add_log("logs/engine.log", places.log)
    jobs = sorted(piece.jobs.items())
    for at, (job, row) in enumerate(jobs):
        told(0.65 + 0.3 * at / len(jobs), f"job {job}")
        bundle.add_log(f"logs/job-{job}.log", places.job(job).log)
        _checkpoint(bundle, row)
    told(0.95, "system.json")
    bundle.add_json("system.json", system_facts())
    return bundle.close(
        {
            "made": time.time(),
            "version": version(),
            "from": piece.start,
            "to": piece.end,
            "events": len(piece.events),
            "jobs": sorted(piece.jobs),
        }
    )


def myself() -> tuple[list[str], list[str]]:
    """This account's name and home; a container may have neither."""
    users, homes = [], []
    with contextlib.suppress(KeyError, OSError, ImportError):
        users.append(getpass.getuser())
    with contextlib.suppress(RuntimeError):
        homes.append(str(Path.home()))
    return users, homes


def _checkpoint(bundle: Bundle, row: JobRow) -> None:
    """What is in the checkpoint that a job names: headers only, no process is started."""
    from engine.checkpoint.errors import CheckpointError
    from engine.checkpoint.inspect import inspect
    from engine.checkpoint.layout import find

    folder = row.request.get("ckpt_dir")
    if not folder:
        return
    try:
        report = inspect(find(Path(str(folder))), headers_only=True).to_dict()
    except (CheckpointError, OSError) as error:
        bundle.left_out.append(f"checkpoint of job {row.id}: {error}")
        return
    bundle.add_json(f"checkpoint/job-{row.id}.json", report)
