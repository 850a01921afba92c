"""``avatop reap``: zombies found, shown, and ended when a person says so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import click

from console.commands.columns import Col, Columns
from console.commands.say import json_option, print_json, tell
from console.exits import FAILED, REFUSED, Refused
from console.format import NA, fit, gib, inert
from console.i18n import N_, t
from console.spoken import spoken
from engine.guard.evidence import holders
from engine.guard.kill import Audit, ReadOnlyRefused, Waits
from engine.guard.plan_reap import Done
from engine.guard.reaper import Reaper, Report, audit_into
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError
from engine.telemetry.devices import pick_source

_TABLE: Final = Columns(
    Col(N_("pid"), 8, right=True), Col(N_("class"), 15, gap=2), Col(N_("action"), 10),
    Col(N_("freed GiB"), 9, right=True), Col(N_("result"), gap=2),
)  # fmt: skip


@click.command(short_help="Find zombies; end them with --yes.")
@click.option("--yes", is_flag=True, help="Do it. Without: show what would be done.")
@click.option(
    "--pid",
    "pids",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="N",
    help="Only this process, whosever it is; may be repeated.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0.0, 300.0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long each of SIGTERM, SIGKILL and the release of memory may take.",
)
@click.option(
    "--read-only",
    is_flag=True,
    envvar="AVATOP_READ_ONLY",
    help="Change nothing: --yes is refused.",
)
@json_option
@click.pass_context
def reap(
    ctx: click.Context,
    yes: bool,
    pids: tuple[int, ...],
    wait: float,
    read_only: bool,
    as_json: bool,
) -> None:
    """Find orphaned and stuck ranks, strays that hold GPU memory, and leaked shared memory.

    Without --yes nothing is touched. With --yes leftovers of your own launchers are ended;
    any other process needs its number too: --pid N --yes.
    """
    waits = Waits(wait, wait, wait)
    source = pick_source().source
    # Without a driver there is nobody to ask: that is not the same as a list that is empty.
    read = (lambda: holders(source.read())) if source.name == "nvml" else None
    try:
        with _audit(needed=yes and not read_only) as audit:
            reaper = Reaper(read_memory=read, audit=audit, waits=waits, read_only=read_only)
            report = reaper.reap(yes=yes, named=pids)
    except ReadOnlyRefused as error:
        raise Refused(str(error)) from error
    finally:
        source.close()
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    refused = [d for d in report.actions if pids and yes and d.result == "none"]
    if refused:
        ctx.exit(REFUSED)
    if not report.ok:
        ctx.exit(FAILED)


@contextlib.contextmanager
def _audit(*, needed: bool) -> Iterator[Audit | None]:
    """The store's audit; a deed that cannot be recorded is not done."""
    if not needed:
        yield None
        return
    try:
        store = JobStore(Places.of().database)
    except StoreError as error:
        raise Refused(f"nothing was done, because it could not be recorded: {error}") from error
    try:
        yield audit_into(store)
    finally:
        store.close()


def _print(report: Report) -> None:
    if not report.actions and not report.leaks:
        tell(t("No zombie: nothing orphaned, stuck or stray, and no leaked shared memory."))
        return
    if report.actions:
        click.echo(_TABLE.head())
    for done in report.actions:
        for line in _lines(done):
            click.echo(line)
    for item in report.leaks:
        detail = item.detail or item.leak.doubt or item.leak.what
        click.echo(f"/dev/shm/{inert(item.leak.name)}  {t(item.result)}: {inert(spoken(detail))}")
    if report.dry_run:
        tell(t("Nothing was touched. To do it: {command}", command="avatop reap --yes"))


def _lines(done: Done) -> Iterator[str]:
    body = done.to_dict()
    freed = gib(done.freed_bytes) if done.freed_bytes is not None else NA
    result = done.result if done.result != "none" else "left alone"
    text = f"{result}: {body['detail']}" if body["detail"] else result
    yield _TABLE.row(
        str(body["pid"]), fit(t(body["class"]), 15), fit(t(body["action"]), 10), freed,
        inert(spoken(text)),
    )  # fmt: skip
    if body["command"]:
        yield f"{'':>10}{inert(body['command'])[:160]}"
    for line in done.step.verdict.evidence:
        if line != body["detail"]:
            yield f"{'':>10}- {inert(spoken(line))}"
    if body["next"]:
        yield f"{'':>10}{t('next: {command}', command=inert(body['next']))}"
