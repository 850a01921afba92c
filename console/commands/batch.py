"""``avatop batch``: videos of whole folders, unattended; their reports; what failed once more."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from console import exits
from console import format as fmt
from console.commands.attach import ANSWER_SECONDS, running_engine
from console.commands.batch_follow import follow, hand_over, stored
from console.commands.batch_page import page
from console.commands.common import parameter_options, resolve_flags, source_options
from console.commands.say import json_option, print_json, tell, tell_remark
from console.i18n import t
from engine.batch import report as reports
from engine.batch.post import check as check_post
from engine.batch.rows import BatchRow
from engine.batch.sizes import DEFAULT_TABLE, SizeTableError, parse_sizes
from engine.batch.spec import OWN_FIELDS, BatchSpec, SpecError, spec_from_dict
from engine.batch.store import BatchStore
from engine.messages import BatchCommand
from engine.params import Resolved

#: Tries after the first, where nobody says (B5).
_RETRIES = 3


class _Batches(click.Group):
    """``avatop batch AUDIO_DIR …`` means ``avatop batch start AUDIO_DIR …``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        if first and first not in self.commands and first not in ("-h", "--help"):
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Batches, short_help="Make videos of whole folders; report, retry.")
def batch() -> None:
    """Make a video of every pair of two folders: avatop batch AUDIO_DIR IMAGE_DIR OUT_DIR.

    A sound and a portrait of one name are a pair. The same command goes on where an earlier run
    was ended. All flags: avatop batch start --help.
    """


@batch.command(short_help="Begin a batch, or go on with it.")
@click.argument("audio_dir", type=click.Path(path_type=Path))
@click.argument("image_dir", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@source_options
@click.option("--name", default="", help="What it is called; by default the output folder.")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="CSV",
    help="Prompts and parameters by item: a column name, and any of prompt, size, base_seed …",
)
@click.option("--watch", is_flag=True, help="An inbox: whole new pairs enter until it is stopped.")
@click.option(
    "--resolution-table",
    "table",
    metavar="TABLE|none",
    help=f"Size by the sound's length in seconds. [default: {DEFAULT_TABLE}, unless --size is]",
)
@click.option(
    "--item-timeout", type=click.FloatRange(min=0, min_open=True), metavar="S",
    help="Seconds of work that one try of an item may take.",
)  # fmt: skip
@click.option(
    "--retry-wait", type=click.FloatRange(min=0), default=20.0, show_default=True, metavar="S",
    help="Seconds before the first retry; doubled before each further one.",
)  # fmt: skip
@click.option(
    "--halt-share", type=click.FloatRange(0, 1, min_open=True), default=0.5, show_default=True,
    help="Stop for a person when more than this share of tried items failed (5 at least).",
)  # fmt: skip
@click.option(
    "--lines",
    default="auto",
    show_default=True,
    metavar="auto|N|pipeline",
    help="Independent rank groups side by side, or one pipeline over all devices.",
)
@click.option(
    "--post-command",
    metavar="'PROGRAM ARG …'",
    help="Run on each verified output; {output}, {name}, {audio}, {image}, {sidecar} and others "
    "are filled in. Split into arguments once, never given to a shell.",
)
@click.option(
    "--post-timeout", type=click.FloatRange(min=0, min_open=True), default=600.0,
    show_default=True, metavar="S", help="Seconds that the post-command may take.",
)  # fmt: skip
@click.option("--release", metavar="VERSION", help="Every item runs by this release.")
@click.option("--detach", is_flag=True, help="Return at once; the engine works on.")
@json_option
@parameter_options
@click.pass_context
def start(ctx: click.Context, /, detach: bool, as_json: bool, **options: Any) -> None:
    """Make a video of every pair of AUDIO_DIR and IMAGE_DIR in OUT_DIR.

    Takes the flags of "run" but for --image, --audio and --output. Exit codes: 0 all done, 1 some
    failed (the report says which), 2 bad input, 3 nothing fits, 130 stopped by a signal.
    """
    spec, remarks = _spec(options)
    for remark in remarks:
        tell_remark(remark)
    if detach:
        data = hand_over(spec)
        if as_json:
            print_json({"batch": data["batch"], "state": "running", "lines": data.get("lines")})
        return
    ctx.exit(follow(BatchCommand(do="start", spec=spec.to_dict()), as_json))


# Each item has its own; and retries count tries of the item, the job's own among them.
start.params = [param for param in start.params if param.name not in OWN_FIELDS]


@batch.command("list", short_help="List batches, the newest first.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@json_option
def list_batches(limit: int, as_json: bool) -> None:
    """List the batches of this user."""
    with stored() as found:
        rows = found.batches(limit) if found else ()
        bodies = [_outline(found, row) for row in rows if found]
    if as_json:
        print_json({"batches": bodies})
        return
    if not bodies:
        command = "avatop batch AUDIO_DIR IMAGE_DIR OUT_DIR"
        tell(t("no batches yet; begin one with: {command}", command=command))
    for body in bodies:
        counts = ", ".join(f"{n} {fmt.word(state)}" for state, n in body["counts"].items())
        state = fmt.fit(fmt.word(body["state"]), 9)
        click.echo(fmt.inert(f"{body['batch']}  {state}{body['name']}: {counts}"))


@batch.command(short_help="The report of a batch.")
@click.argument("which", metavar="DIR|ID")
@click.option(
    "--compare",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="A JSON report of an earlier batch to set beside it.",
)
@click.option(
    "--format", "kind", type=click.Choice(["page", "markdown", "csv"]), default="page",
    help="For the terminal with plots (default), as Markdown, or as CSV.",
)  # fmt: skip
@json_option
def report(which: str, compare: Path | None, kind: str, as_json: bool) -> None:
    """Tell what a batch made, from the store alone: of the newest batch of an output folder, or of
    the batch with this number. Works while it runs, too."""
    earlier = None if compare is None else reports.read(compare)
    if compare is not None and earlier is None:
        raise exits.BadInput(f"{compare} is no JSON report of a batch")
    with stored() as found:
        body = reports.build(found, _find(found, which)) if found else None
    if body is None:
        raise exits.BadInput(f"there is no batch {which}")
    if as_json:
        told = {} if earlier is None else {"compared": reports.compare(body, earlier)}
        print_json({**body, **told})
    elif kind == "csv":
        click.echo(reports.as_csv(body), nl=False)
    elif kind == "markdown":
        click.echo(reports.as_markdown(body, earlier), nl=False)
    else:
        click.echo(page(body, earlier))


@batch.command(short_help="Begin a batch's failed items again.")
@click.argument("which", metavar="DIR|ID")
@json_option
@click.pass_context
def retry(ctx: click.Context, /, which: str, as_json: bool) -> None:
    """Begin only what failed or was set apart, with fresh tries; and what is left."""
    ctx.exit(follow(BatchCommand(do="retry", batch=_number(which)), as_json))


@batch.command(short_help="Go on with a stopped or paused batch.")
@click.argument("which", metavar="DIR|ID")
@json_option
@click.pass_context
def resume(ctx: click.Context, /, which: str, as_json: bool) -> None:
    """Go on with a batch: nothing that is done is done again."""
    ctx.exit(follow(BatchCommand(do="resume", batch=_number(which)), as_json))


@batch.command(short_help="Begin no more items; those on devices are finished.")
@click.argument("which", metavar="DIR|ID")
@json_option
def pause(which: str, as_json: bool) -> None:
    """Pause a running batch until "resume"."""
    _change("pause", _number(which), as_json)


@batch.command(short_help="End a batch now; it can be resumed.")
@click.argument("which", metavar="DIR|ID")
@json_option
def stop(which: str, as_json: bool) -> None:
    """Stop a running batch: its jobs are cancelled, their items wait for a resume."""
    _change("stop", _number(which), as_json)


def _change(do: str, number: str, as_json: bool) -> None:
    client = running_engine()
    if client is None:
        raise exits.Failed("no engine is running, so no batch is at work")
    with contextlib.closing(client):
        reply = client.send(BatchCommand(do=do, batch=number)).result(ANSWER_SECONDS)
    if not reply.ok:
        raise exits.Failed(reply.message)
    if as_json:
        print_json({"batch": number, "state": reply.state})
    else:
        tell(reply.message)


def spec_of(arguments: Sequence[str]) -> tuple[BatchSpec, list[str]]:
    """What ``avatop batch start`` with these arguments asks for, and remarks on it.

    Raises:
        click.ClickException: they are refused; the message says why.
        click.exceptions.Exit: they ask for help.
    """
    with start.make_context("avatop batch", list(arguments)) as context:
        own = ("detach", "as_json")
        return _spec({name: v for name, v in context.params.items() if name not in own})


def _spec(options: dict[str, Any]) -> tuple[BatchSpec, list[str]]:
    own = {name: options.pop(name) for name in _OWN_OPTIONS}
    resolved = resolve_flags(options, own["file"], own["preset"], required=("ckpt_dir",))
    remarks = list(resolved.remarks)
    sizes, remark = _sizes(own["table"], resolved)
    if remark:
        remarks.append(remark)
    request = {k: v for k, v in resolved.request.to_dict().items() if k not in OWN_FIELDS}
    retries = request["retries"] if resolved.sources["retries"] != "default" else _RETRIES
    manifest = own["manifest"]
    try:
        post = tuple(shlex.split(own["post_command"] or ""))
        check_post(post)
        spec = spec_from_dict(
            {
                **{f: str(own[f].absolute()) for f in ("audio_dir", "image_dir", "out_dir")},
                "request": request,
                "name": own["name"],
                "manifest": None if manifest is None else str(manifest.absolute()),
                "watch": own["watch"],
                "sizes": sizes,
                "whole_audio": resolved.sources["num_clip"] == "default",
                "item_timeout": own["item_timeout"],
                "retries": retries,
                "retry_seconds": own["retry_wait"],
                "halt_share": own["halt_share"],
                "lines": own["lines"],
                "post_command": post,
                "post_timeout": own["post_timeout"],
                "version": own["release"],
            }
        )
    except (SpecError, ValueError) as error:
        raise exits.BadInput(str(error)) from error
    return spec, remarks


_OWN_OPTIONS = (
    *("audio_dir", "image_dir", "out_dir", "preset", "file", "name", "manifest", "watch", "table"),
    *("item_timeout", "retry_wait", "halt_share", "lines", "post_command", "post_timeout"),
    "release",
)


def _sizes(table: str | None, resolved: Resolved) -> tuple[str, str]:
    """The table's text, "" where one size holds for all; and a remark on that."""
    if table is not None:
        try:
            return "" if table == "none" else parse_sizes(table).text, ""
        except SizeTableError as error:
            raise exits.BadInput(str(error)) from error
    source = resolved.sources["size"]
    if source == "default":
        return DEFAULT_TABLE, ""
    return "", f"size {resolved.request.size} for all items ({source}); no resolution table."


def _number(which: str) -> str:
    with stored() as found:
        if found is None:
            raise exits.BadInput(f"there is no batch {which}")
        return _find(found, which).id


def _find(found: BatchStore, which: str) -> BatchRow:
    row = found.batch(which)
    if row is None:
        folder = str(Path(which).absolute())
        of_folder = (r for r in found.batches() if r.spec.get("out_dir") == folder)
        row = next(of_folder, None)
    if row is None:
        raise exits.BadInput(f"there is no batch {which}; see: avatop batch list")
    return row


def _outline(found: BatchStore, row: BatchRow) -> dict[str, Any]:
    from engine.batch.progress import counts

    return {
        "batch": row.id,
        "name": row.name,
        "state": row.state,
        "note": row.note,
        "created": row.created,
        "ended": row.ended,
        "out_dir": row.spec.get("out_dir"),
        "report": row.report,
        "counts": counts(found.items(row.id)),
    }
