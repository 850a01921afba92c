"""``avatop alerts``: what fires, who has seen it, and whether anybody would be told."""

from __future__ import annotations

import dataclasses
import getpass
import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from console.commands.say import json_option, print_json, tell
from console.exits import BadInput, Failed
from console.format import NA, clock, duration, fit, inert, word
from console.i18n import t
from console.spoken import spoken
from engine.alerts.book import Book, BookError
from engine.alerts.deliver import DeliveryError, deliver
from engine.alerts.evaluate import Order
from engine.alerts.notify import Notify, SecretError, Target, notify_of
from engine.alerts.places import rules_file
from engine.alerts.promql import export
from engine.alerts.remedies import unknown_remedies
from engine.alerts.rules import Rule, RuleError, load_rules, read_toml
from engine.alerts.states import ACTIVE, RESOLVED, SILENCED, Alert
from engine.alerts.units import duration_seconds
from engine.jobs.paths import Places
from engine.jobs.store import JobStore, StoreError

_FILE_OPTION = click.option(
    "--file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The rules' file (default: AVATOP_ALERTS_FILE, or alerts.toml in the XDG folder).",
)


@click.group(invoke_without_command=True, short_help="What fires; acknowledge, silence, test.")
@json_option
@click.pass_context
def alerts(ctx: click.Context, as_json: bool) -> None:
    """Without a word: the list of alerts that are not resolved."""
    ctx.obj = {"json": as_json}
    if ctx.invoked_subcommand is None:
        _list(as_json, everything=False)


@alerts.command("list")
@click.option("--all", "everything", is_flag=True, help="Those resolved within a day too.")
@json_option
@click.pass_context
def list_command(ctx: click.Context, everything: bool, as_json: bool) -> None:
    """Alerts, the gravest first; with --json one object per line."""
    _list(as_json or _asked(ctx), everything=everything)


@alerts.command()
@click.argument("name", metavar="ID")
@json_option
@click.pass_context
def ack(ctx: click.Context, name: str, as_json: bool) -> None:
    """Say that somebody has seen it. ID: an alert's (or its beginning), or a rule's for all."""
    _order("ack", name, None, as_json or _asked(ctx))


@alerts.command()
@click.argument("name", metavar="ID")
@click.option("--for", "span", required=True, metavar="DURATION", help="E.g. 2h, 30m; 0s ends it.")
@json_option
@click.pass_context
def silence(ctx: click.Context, name: str, span: str, as_json: bool) -> None:
    """Tell nobody for a while. ID: an alert's (or its beginning), or a rule's for all."""
    seconds = duration_seconds(span)
    if seconds is None:
        raise BadInput(f"--for {inert(span)}: no duration such as 2h or 30m")
    kind = "silence" if seconds > 0 else "unsilence"
    _order(kind, name, seconds or None, as_json or _asked(ctx))


@alerts.command()
@_FILE_OPTION
@json_option
@click.pass_context
def validate(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """Read the rules and the targets; every problem is told, and exit 2 if there is one."""
    path = file or rules_file()
    if file is not None and not file.exists():
        raise BadInput(f"{inert(str(file))}: no such file")
    problems: list[str] = []
    rules: tuple[Rule, ...] = ()
    notify = Notify()
    try:
        rules = load_rules(path)
    except RuleError as error:
        problems += error.problems
    for rule in rules:
        for name in unknown_remedies(rule.remedies):
            problems.append(f"rule {rule.id}: remedies: triage knows no {name!r}")
    try:
        notify = notify_of(read_toml(path))
    except RuleError as error:
        problems += [text for text in error.problems if text not in problems]
    for target in notify.targets:
        try:
            target.address()
        except SecretError as error:
            problems.append(f"notify: target {target.name}: {error}")
    if as_json or _asked(ctx):
        print_json(
            {
                "ok": not problems,
                "file": str(path) if path.exists() else None,
                "rules": [rule.to_dict() for rule in rules],
                "targets": [target.name for target in notify.targets],
                "problems": problems,
            }
        )
    else:
        for text in problems:
            click.echo(inert(text))
        where = str(path) if path.exists() else "no file of your own; the defaults"
        enabled = sum(rule.enabled for rule in rules)
        tell(f"{inert(where)}: {enabled} rules in force, {len(notify.targets)} to tell")
    if problems:
        ctx.exit(BadInput.exit_code)


@alerts.command("test-delivery")
@click.argument("names", nargs=-1, metavar="[TARGET]...")
@_FILE_OPTION
@json_option
@click.pass_context
def test_delivery(
    ctx: click.Context, names: tuple[str, ...], file: Path | None, as_json: bool
) -> None:
    """Send a test to every target, or to those named; exit 1 if one does not take it."""
    try:
        notify = notify_of(read_toml(file or rules_file()))
    except RuleError as error:
        raise BadInput("; ".join(error.problems)) from error
    known = {target.name: target for target in notify.targets}
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        there = ", ".join(known) or f"none: write [[notify.target]] into {file or rules_file()}"
        raise BadInput(
            f"no target {inert(' '.join(unknown))}; there are {there}".replace("  ", " ")
        )
    results = [_test(known[name]) for name in (names or tuple(known))]
    if as_json or _asked(ctx):
        print_json({"ok": all(r["delivered"] for r in results), "targets": results})
    else:
        for result in results:
            said = "delivered" if result["delivered"] else f"FAILED: {result['error']}"
            click.echo(f"{inert(result['target'])}: {inert(said)}")
    if not all(result["delivered"] for result in results):
        ctx.exit(Failed.exit_code)


@alerts.command("export-prometheus")
@_FILE_OPTION
@json_option
@click.pass_context
def export_prometheus(ctx: click.Context, file: Path | None, as_json: bool) -> None:
    """The rules in force as a Prometheus rules file, on stdout."""
    try:
        done = export(load_rules(file or rules_file()))
    except RuleError as error:
        raise BadInput("; ".join(error.problems)) from error
    if as_json or _asked(ctx):
        print_json({"text": done.text, "left_out": list(done.left_out)})
        return
    click.echo(done.text, nl=False)
    for text in done.left_out:
        tell(f"left out: {text}")


def _asked(ctx: click.Context) -> bool:
    """``avatop alerts --json list`` is as good as ``avatop alerts list --json``."""
    return bool(ctx.parent is not None and (ctx.parent.obj or {}).get("json"))


def _book() -> Book:
    return Book(Places.of().state)


def _look(book: Book) -> list[Alert]:
    if not book.path.exists():  # looking must not make a file
        return []
    try:
        return book.look(time.time())
    except BookError as error:
        raise Failed(f"the alerts cannot be read: {error}") from error


def _list(as_json: bool, *, everything: bool) -> None:
    book = _book()
    order = {"critical": 0, "warning": 1}
    found = [a for a in _look(book) if everything or a.state != RESOLVED]
    found.sort(key=lambda a: (a.state == RESOLVED, order.get(a.severity, 2), a.since))
    if as_json:
        for alert in found:
            sys.stdout.write(json.dumps(_body(alert), ensure_ascii=False) + "\n")
        sys.stdout.flush()
    else:
        for alert in found:
            click.echo(_line(alert))
        if not found:
            tell(t("No alert."))
    if not book.watched():
        tell(t("No engine runs: nothing is being watched now."))


def _order(kind: str, name: str, seconds: float | None, as_json: bool) -> None:
    book, now = _book(), time.time()
    target = _target(name, _look(book), kind)
    until = None if seconds is None else now + seconds
    order = Order(kind, target, _user(), now, until)
    try:
        book.ask(order)
        _audit(order)
    except (BookError, StoreError) as error:
        raise Failed(f"it could not be recorded: {error}") from error
    meant = [a for a in _look(book) if target in (a.id, a.rule) and a.state in ACTIVE]
    if as_json:
        print_json({"order": dataclasses.asdict(order), "alerts": [_body(a) for a in meant]})
        return
    for alert in meant:
        click.echo(_line(alert))
    if not book.watched():
        tell(t("No engine runs: it counts once one does."))


def _target(name: str, known: list[Alert], kind: str) -> str:
    """An alert's id, a rule's, or the only alert whose id begins so."""
    ids = [alert.id for alert in known if alert.state != RESOLVED]
    rules = {alert.rule for alert in known if alert.state != RESOLVED}
    if kind != "ack":  # what does not fire yet can be silenced beforehand
        try:
            rules |= {rule.id for rule in load_rules(rules_file())}
        except RuleError:
            rules |= {rule.id for rule in load_rules(None)}
    if name in ids or name in rules:
        return name
    fitting = [one for one in ids if one.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BadInput(f"{inert(name)} fits {', '.join(fitting)}: give more of it")
    raise BadInput(f"no alert {inert(name)}; there are: {', '.join(ids) or 'none'}")


def _audit(order: Order) -> None:
    store = JobStore(Places.of().database)
    try:
        detail: dict[str, Any] = {"target": order.target, "by": order.by, "until": order.until}
        store.audit(f"alert-{order.kind}", **detail)
    finally:
        store.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return "unknown"


def _test(target: Target) -> dict[str, Any]:
    error = None
    try:
        deliver(
            target.address(),
            "avatop: test",
            "This is a test: notifications from avatop arrive here.",
            "info",
        )
    except (SecretError, DeliveryError) as problem:
        error = str(problem)
    return {"target": target.name, "delivered": error is None, "error": error}


def _body(alert: Alert) -> dict[str, Any]:
    body = dataclasses.asdict(alert)
    for inner in ("key", "held", "clear", "blind", "fired"):
        del body[inner]
    return body


def _line(alert: Alert) -> str:
    since = duration(max(0.0, time.time() - alert.since))
    silent = alert.state == SILENCED and alert.until
    until = " " + t("until {time}", time=clock(alert.until or 0.0)) if silent else ""
    by = " " + t("by {who}", who=inert(alert.by)) if alert.by else ""
    flaps = ", " + t("flapping") if alert.flapping else ""
    return (
        f"{fit(t(alert.severity), 8)} {fit(word(alert.state), 12)} {since or NA:>8}  "
        f"{inert(alert.id)}: {inert(spoken(alert.message))}{by}{until}{flaps}"
    )
