"""``avatop drill``: a fault for real, on a sample job, and what came of it."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from console import exits
from console.commands.common import parameter_options, resolve_flags
from console.commands.demo import sample_flags
from console.commands.say import json_option, print_json, tell
from console.format import inert
from console.i18n import t
from console.spoken import spoken
from engine.drills.play import DRILLS, play
from engine.drills.report import DrillError, DrillReport

#: A job of two ranks that two CPU cores end within seconds; any of them gives way to a flag.
SMALL: Final = {"gpus": "cpu", "size": "64*64", "num_clip": "2"}
_PLACING: Final = frozenset({"mode", "single_gpu", "dit_fsdp", "offload_model", "num_gpus_dit"})


@click.command(short_help="Make a fault happen on a sample job and see it survived.")
@click.argument("name", metavar="NAME", type=click.Choice(tuple(DRILLS)))
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the drill's state there: log, recording, incidents, jobs.",
)
@json_option
@parameter_options
@click.pass_context
def drill(ctx: click.Context, /, name: str, keep: Path | None, as_json: bool, **flags: Any) -> None:
    """Make a fault happen for real on a sample job and report what was lost.

    oom, sigkill, hang, slow-link, disk-full, corrupt-ckpt, port. The job runs twice, undisturbed
    and with the fault, in an engine and a state folder of the drill's own, on two CPU ranks;
    every flag of "run" may be given, so that it can be another model on GPUs. Exit codes: 0 nothing
    lost and nothing left over, 1 otherwise, 2 bad input, 3 the fault cannot be made here.
    """
    given = {flag: value for flag, value in flags.items() if value is not None}
    wanted = {**SMALL, **({} if _PLACING & set(given) else DRILLS[name].flags), **given}
    resolved = resolve_flags({**sample_flags(wanted), **wanted}, None, None)
    # Ranks, shared memory and mounts are tidied away on TERM as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _folder(keep) as folder:
        try:
            report = play(name, resolved.request, folder)
        except DrillError as error:
            raise exits.Failed(str(error)) from error
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    if report.recovered is None:
        ctx.exit(exits.REFUSED)
    ctx.exit(exits.DONE if report.ok else exits.FAILED)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(
            prefix="avatop-drill-", ignore_cleanup_errors=True
        ) as name:
            yield Path(name)
        return
    if keep.exists() and any(keep.iterdir()):
        raise exits.BadInput(f"--keep {inert(str(keep))}: it is not empty; name a new folder")
    keep.mkdir(parents=True, exist_ok=True, mode=0o700)
    yield keep.absolute()


def _print(report: DrillReport) -> None:
    words = {True: t("recovered"), False: t("not recovered"), None: t("not played")}
    word = words[report.recovered]
    if report.recovery_seconds is not None:
        word = t("{word} in {seconds:.1f} s", word=word, seconds=report.recovery_seconds)
    click.echo(f"{report.drill}: {word}")
    lost = "; ".join(inert(spoken(one)) for one in report.lost) or t("nothing")
    click.echo(t("lost: {what}", what=lost))
    same = report.latents_sha256 is not None and report.latents_sha256 == report.undisturbed_sha256
    click.echo(t("latents: the same bytes as undisturbed") if same else t("latents: n/a"))
    left = [t("process {pid}", pid=pid) for pid in report.leftover_pids] + [*report.leftover_shm]
    click.echo(t("left over: {what}", what="; ".join(left) or t("nothing")))
    for note in report.notes:
        tell(f"  {inert(spoken(note))}")
