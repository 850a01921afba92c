"""What ``avatop release`` tells without an engine: releases, gates, stage, history, shares."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import click

from console.commands.columns import Col, Columns
from console.commands.export import moment_option
from console.commands.say import json_option, print_json, tell
from console.exits import BadInput, Failed
from console.format import NA, clock, fit, inert, significant, word
from console.i18n import N_, t
from console.progress import memory
from console.spoken import spoken
from console.stored import stored_jobs
from engine.release.evidence import Evidence
from engine.release.export import nginx
from engine.release.export import weights as shares
from engine.release.model import Release, ReleaseError
from engine.release.settings import Settings, load
from engine.release.store import ReleaseStore

_GATES: Final = Columns(
    Col(N_("gate"), 26), Col(N_("baseline"), 10, right=True, gap=0),
    Col(N_("candidate"), 11, right=True, gap=0), Col(N_("deviation"), 11, right=True, gap=0),
    Col(N_("interval"), 17, right=True, gap=0), Col(N_("allowed"), 9, right=True, gap=0),
    Col("n", 5, right=True, gap=0), Col(N_("verdict"), gap=2),
)  # fmt: skip


@click.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """Every version, the newest first."""
    with stored_releases() as store:
        found = [] if store is None else [_short(store, one) for one in store.list()]
    if as_json:
        print_json({"releases": found})
        return
    for one in found:
        validated = t(one["validation"] or N_("not validated"))
        click.echo(
            f"{fit(one['version'], 20)} {fit(t(one['role']), 10)} {fit(validated, 14)} "
            f"{one['digest'][:12]}  {_when(one['created'])}  {inert(one['note'])}"
        )
    if not found:
        command = "avatop release add VERSION --ckpt_dir DIR"
        tell(t("No release; {command} makes one.", command=command))


@click.command()
@click.argument("version")
@json_option
def show(version: str, as_json: bool) -> None:
    """One version whole: files, parameters, environment, and what differs from it now."""
    from engine.release.snapshot import differences, environment_now

    with _needed() as store:
        release = _release(store, version)
        body = {**_short(store, release), **release.to_dict()}
    changed = release.changed()
    body["changed"] = changed
    body["differs"] = differences(release.environment, environment_now(release.environment))
    if as_json:
        print_json(body)
        return
    click.echo(f"{release.version}: {body['role']}, digest {release.digest}")
    click.echo(
        f"model {inert(str(release.model.get('ckpt_dir')))}, {len(release.weights)} files"
        + (f", LoRA {inert(release.lora[0].path)}" if release.lora else "")
    )
    for name, value in sorted(release.parameters.items()):
        click.echo(f"  {name} = {inert(str(value))}")
    cap = "none" if release.memory_cap is None else f"{release.memory_cap} bytes"
    click.echo(f"memory cap: {cap}; runner: {release.runner}")
    for path in release.configuration:
        click.echo(f"  keeps {inert(path)}")
    for what in [*([changed] if changed else ()), *body["differs"]]:
        click.echo(f"differs now: {inert(what)}")


@click.command()
@json_option
def status(as_json: bool) -> None:
    """What is live, where the candidate stands, its gates, and what is left over."""
    from engine.release.assign import Assigner
    from engine.release.drain import unfinished

    settings = _settings()
    with stored_releases() as store:
        if store is None:
            body: dict[str, Any] = {
                "stable": None,
                "candidate": None,
                "rollout": None,
                "two_runnable": False,
                "unfinished": [],
            }
        else:
            now = store.rollout()
            stable, candidate = store.find("stable"), store.find("candidate")
            other = candidate
            if other is None and now is not None:  # what could be gone back to, or forward
                other = store.find(now.stable if now.state == "promoted" else now.candidate)
            left = []
            if now is not None and now.state == "rolled_back":
                left = unfinished(store, Assigner(store, settings), now.candidate)
            ready = [r for r in (stable, other) if r is not None and r.changed() is None]
            body = {
                "stable": stable.version if stable else None,
                "candidate": candidate.version if candidate else None,
                "rollout": None if now is None else _rollout(store, settings),
                "two_runnable": len({r.digest for r in ready}) == 2,
                "unfinished": left,
            }
    if as_json:
        print_json(body)
        return
    said = t(
        "stable: {stable}; candidate: {candidate}; two runnable versions: {answer}",
        stable=body["stable"] or NA, candidate=body["candidate"] or NA,
        answer=t("yes") if body["two_runnable"] else t("no"),
    )  # fmt: skip
    click.echo(said)
    rollout = body["rollout"]
    if rollout:
        said = t(
            "{version}: {state} at stage {stage}, share {share}",
            version=rollout["version"], state=word(rollout["state"]), stage=rollout["stage"],
            share=f"{rollout['share']:.0%}",
        )  # fmt: skip
        hand = "" if rollout["automatic"] else ", " + t("by hand")
        click.echo(f"{said}{hand}  {inert(spoken(rollout['note']))}".rstrip())
        for line in gate_lines(rollout["gates"]):
            click.echo(line)
    for left in body["unfinished"]:
        said = t("job {id} {state}: {what}", id=left["job"], state=word(left["state"]),
                 what=inert(spoken(left["what_to_do"])))  # fmt: skip
        click.echo(said)


@click.command()
@click.argument("version", required=False)
@click.option("--at", "at", metavar="TIME", help="Which version was live then.")
@json_option
def history(version: str | None, at: str | None, as_json: bool) -> None:
    """What happened, the newest first; --at tells what was live when. JSON: one line each."""
    with stored_releases() as store:
        if at is not None:
            t = moment_option("--at", at, datetime.now().astimezone().timestamp())
            live = None if store is None else store.live_at(t)
            if as_json:
                print_json({"at": t, "version": live})
            else:
                click.echo(live or NA)
            return
        entries = () if store is None else store.history(version)
    for entry in entries:
        if as_json:
            sys.stdout.write(json.dumps(dataclasses.asdict(entry), ensure_ascii=False) + "\n")
            continue
        note = entry.detail.get("note") or ""
        click.echo(
            f"{_when(entry.t)}  {fit(entry.version, 16)} {fit(entry.kind, 20)} "
            f"{fit(entry.by, 12)} {inert(spoken(str(note)))}"
        )


@click.command("export-weights")
@click.option("--nginx", "as_nginx", is_flag=True, help="An nginx upstream as an example.")
@json_option
def weights(as_nginx: bool, as_json: bool) -> None:
    """The shares of stable and candidate, for a load balancer before several hosts."""
    settings = _settings()
    with stored_releases() as store:
        empty: dict[str, Any] = {"stage": None, "versions": []}
        body = empty if store is None else shares(store, settings)
    text = nginx(body)
    if as_nginx and not as_json:
        click.echo(text, nl=False)
    else:
        print_json({**body, "nginx": text})


def gate_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Gates as a table: baseline, candidate, deviation, allowed, n, verdict, note."""
    if rows:
        yield _GATES.head()
    for row in rows:
        low, high = (_share(row[end]) for end in ("low", "high"))
        interval = NA if row["low"] is None else f"{low}…{high}"
        # A gate allows a share of the baseline; what a check allows is more, and in its unit.
        unit, limit = row["unit"], row["unit"] if (row["allowed"] or 0) > 1 else ""
        armed = "" if row["armed"] else f" ({t('not armed')})"
        note = f"  {inert(spoken(row['note']))}" if row["note"] else ""
        yield _GATES.row(
            fit(row["gate"], 26), _figure(row["baseline"], unit), _figure(row["candidate"], unit),
            _share(row["deviation"]), interval, _figure(row["allowed"], limit), str(row["n"]),
            f"{row['verdict']}{armed}{note}",
        )  # fmt: skip


def validation_of(version: str) -> dict[str, Any]:
    """The newest validation of a version, JSON-safe."""
    with _needed() as store:
        release = _release(store, version)
        found = Evidence(store.jobs).validation(release.digest)
    if found is None:
        raise Failed(f"{inert(version)} was never validated")
    body = dataclasses.asdict(found)
    return {"version": release.version, **body}


def _rollout(store: ReleaseStore, settings: Settings) -> dict[str, Any]:
    now = store.rollout()
    assert now is not None
    stage = settings.stages[min(now.stage, len(settings.stages) - 1)]
    body = dataclasses.asdict(now)
    body["version"] = store.get(now.candidate).version
    body["stage_number"], body["stage"] = now.stage, stage.name
    body["share"] = stage.share if now.active and now.state != "paused" else 0.0
    return body


def _short(store: ReleaseStore, release: Release) -> dict[str, Any]:
    found = Evidence(store.jobs).validation(release.digest)
    return {
        "version": release.version,
        "digest": release.digest,
        "role": store.role(release.digest),
        "validation": found.state if found else None,
        "created": release.created,
        "note": release.note,
    }


@contextmanager
def stored_releases() -> Iterator[ReleaseStore | None]:
    """The file's releases; None where no avatop has run yet (looking must not make a file).

    Raises:
        Failed: the file cannot be read.
    """
    with stored_jobs() as jobs:
        yield None if jobs is None else ReleaseStore(jobs)


@contextmanager
def _needed() -> Iterator[ReleaseStore]:
    with stored_releases() as store:
        if store is None:
            raise BadInput("there is no release yet")
        yield store


def _release(store: ReleaseStore, version: str) -> Release:
    try:
        return store.get(version)
    except ReleaseError as error:
        raise BadInput(inert(str(error))) from error


def _settings() -> Settings:
    try:
        return load()
    except ReleaseError as error:
        raise BadInput(str(error)) from error


def _when(t: float) -> str:
    return f"{datetime.fromtimestamp(t).astimezone():%Y-%m-%d} {clock(t)}"


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return NA
    return memory(int(value)) if unit == "B" else significant(value)


def _share(value: float | None) -> str:
    return NA if value is None else f"{value:+.1%}"
