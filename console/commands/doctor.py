"""``avatop doctor``: whether terminal, GPUs, limits and files are fit, and what to do if not."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from console import format as fmt
from console.bundles import myself
from console.commands.say import json_option, print_json, tell
from console.exits import FAILED, BadInput
from console.i18n import t
from console.spoken import spoken
from console.symbols import shows_unicode
from console.version import version
from engine.doctor import gpu, host, install, session, terminal
from engine.doctor.check import FAIL, NA, OK, WARN, Check, healthy
from engine.jobs.paths import Places
from engine.metrics.server import PORT
from engine.telemetry.capability import capabilities
from engine.telemetry.recording_bundle import Bundle
from engine.telemetry.recording_facts import system_facts
from engine.telemetry.recording_redact import Redactor

_SIGNS: Final = {OK: ("✓", "+"), WARN: ("⚠", "!"), FAIL: ("✗", "x"), NA: ("○", ".")}
_COLOURS: Final = {OK: "green", WARN: "yellow", FAIL: "red", NA: None}
_NAME: Final = 16
_INDENT: Final = _NAME + 10


@click.command(short_help="Check terminal, GPUs, limits and files; say what to do.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write a zip to hand on: the checks, the host's facts, the engine's log; redacted.",
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, bundle: Path | None, as_json: bool) -> None:
    """Look at what avatop needs, and say what to do about what is missing.

    Nothing is changed, no device is touched. Exit code 1 when something that is needed is broken.
    """
    if bundle is not None and bundle.exists():
        raise BadInput(f"{fmt.inert(str(bundle))} is there already; choose another --bundle")
    facts = system_facts()
    found = list(examine(facts))
    body: dict[str, Any] = {"ok": healthy(found), "checks": [check.to_dict() for check in found]}
    if bundle is not None:
        body["bundle"] = _write(bundle, body, facts)
    if as_json:
        print_json(body)
    else:
        _print(found)
        if bundle is not None:
            counts = ", ".join(f"{n:,} {kind}" for kind, n in body["bundle"]["redacted"].items())
            tell(f"Written: {fmt.inert(str(bundle))}; redacted: {counts or 'nothing'}.")
    if not body["ok"]:
        ctx.exit(FAILED)


def examine(facts: dict[str, Any]) -> Iterator[Check]:
    """Every check of this host.

    Args:
        facts: ``system_facts()``.
    """
    above = terminal.ancestors()
    yield from terminal.checks(
        terminal.Terminal(os.environ, shows_unicode(os.environ), _size(), above)
    )
    nvidia = facts["nvidia"]
    gpus = list((nvidia or {}).get("gpus", ()))
    able = capabilities(str(one["uuid"]) for one in gpus if "uuid" in one)
    yield from gpu.checks(nvidia, gpu.torch_build(), able)
    yield from host.limits(len(gpus))
    yield host.shared_memory(len(gpus))
    yield host.signals()
    yield from host.ports({"avatop web": _web_port(), "avatop metrics": PORT})
    users, _ = myself()
    yield from session.checks(users[0] if users else str(os.getuid()))
    places = Places.of()
    yield host.disk("state folder", places.state)
    yield host.disk("cache folder", places.cache)
    yield install.checkpoint(os.environ)
    yield from install.extras()


def _web_port() -> int:
    """Where ``avatop web`` listens by default."""
    from console.commands.web import web

    return next(int(str(p.default)) for p in web.params if p.name == "port")


def _size() -> tuple[int, int] | None:
    """Columns and rows of the terminal that one of the standard streams is."""
    for descriptor in (2, 1, 0):
        with contextlib.suppress(OSError):
            found = os.get_terminal_size(descriptor)
            return found.columns, found.lines
    return None


def _write(path: Path, body: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """The zip; nothing stays behind when it fails."""
    try:
        made = Bundle(path, Redactor(*myself()))
    except OSError as error:
        raise BadInput(f"{fmt.inert(str(path))}: {error.strerror or error}") from error
    try:
        made.add_json("doctor.json", body)
        made.add_json("system.json", facts)
        made.add_log("logs/engine.log", Places.of().log)
        manifest = made.close({"made": time.time(), "version": version()})
    except BaseException:
        made.discard()
        raise
    return {"file": str(path), "bytes": path.stat().st_size, **manifest}


def _print(found: Sequence[Check]) -> None:
    unicode = shows_unicode(os.environ)
    width = max((_size() or (100, 0))[0], 60)
    area = ""
    for check in found:
        if check.area != area:
            area = check.area
            click.echo(f"{area}")
        sign = _SIGNS[check.state][0 if unicode else 1]
        word = click.style(f"{sign} {check.state:<4}", fg=_COLOURS[check.state])
        said = fmt.inert(spoken(check.said)) if unicode else fmt.plain(fmt.inert(check.said))
        click.echo(f"  {word} {fmt.fit(check.name, _NAME)} {said}")
        if check.todo:
            todo = fmt.inert(spoken(check.todo))
            for line in fmt.wrap(todo if unicode else fmt.plain(todo), width - _INDENT):
                click.echo(f"{'':>{_INDENT}}{line}")
        if check.name == "font" and unicode:
            for line in terminal.PATTERN:
                click.echo(f"{'':>{_INDENT}}{line}")
    bad = sum(check.state == FAIL for check in found)
    doubtful = sum(check.state == WARN for check in found)
    tell(
        t(
            "{count} checks: {bad} failed, {doubtful} to look at.",
            count=len(found),
            bad=bad,
            doubtful=doubtful,
        )
    )
