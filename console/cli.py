"""The ``avatop`` command: a table of verbs, each imported only when it is used."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any, Final

import click

from console.exits import INTERRUPTED, USAGE
from console.readonly import asked, guarded

#: Verb → module and attribute, help in one line (so that ``--help`` imports no verb).
VERBS: Final[dict[str, tuple[str, str]]] = {
    "run": ("console.commands.run:run", "Make one video without a screen."),
    "demo": ("console.commands.demo:demo", "Run the sample job; in a terminal, in the console."),
    "plan": ("console.commands.plan:plan", "Say what a placement costs, and what would fit."),
    "submit": ("console.commands.submit:submit", "Queue a job and return; the engine works on."),
    "cancel": ("console.commands.submit:cancel", "Cancel a queued or running job."),
    "pause": ("console.commands.steer:pause", "Stop a job at its next clip, its state on disk."),
    "resume": ("console.commands.steer:resume", "Let a paused or interrupted job go on."),
    "switch": ("console.commands.steer:switch", "Go on in another mode from the next clip."),
    "finish": ("console.commands.steer:finish", "End a job now, join what is committed."),
    "mirror": ("console.commands.steer:mirror", "Write a running job's state to disk now."),
    "attach": ("console.commands.attach:attach", "Open a console on the running engine."),
    "detach": ("console.commands.attach:detach", "Make every console leave; the engine works on."),
    "stop": ("console.commands.attach:stop", "End the running engine, after the clip."),
    "batch": ("console.commands.batch:batch", "Make videos of whole folders; report, retry."),
    "jobs": ("console.commands.jobs:jobs", "List the jobs of this host."),
    "gpus": ("console.commands.gpus:gpus", "Read every device once."),
    "ps": ("console.commands.gpus:ps", "List the processes that matter here."),
    "reap": ("console.commands.reap:reap", "Find zombies; end them with --yes."),
    "alerts": ("console.commands.alerts:alerts", "What fires; acknowledge, silence, test."),
    "release": ("console.commands.release:release", "Versions: validate, roll out, take back."),
    "web": ("console.commands.web:web", "Let people submit through a browser or HTTP."),
    "metrics": ("console.commands.metrics:metrics", "Serve Prometheus metrics on 127.0.0.1."),
    "logs": ("console.commands.logs:logs", "Search what was said, by level, rank, class, time."),
    "drill": ("console.commands.drill:drill", "Make a fault happen; see it survived."),
    "triage": ("console.commands.triage:triage", "Tell what a log means and what to do."),
    "shot": ("console.commands.shot:shot", "A page as SVG or text, without a terminal."),
    "replay": ("console.commands.replay:replay", "Open the screens over a recording."),
    "recordings": ("console.commands.recordings:recordings", "List what is recorded."),
    "export": ("console.commands.export:export", "Make an incident bundle, or a CSV log."),
    "spikes": ("console.commands.spikes:spikes", "Find memory spikes in a log or a recording."),
    "presets": (
        "console.commands.presets:presets_command",
        "List presets with length, time, memory.",
    ),
    "ckpt": ("console.commands.ckpt:ckpt", "Inspect, verify or synthesise a checkpoint."),
    "doctor": ("console.commands.doctor:doctor", "Check what avatop needs; say what to do."),
    "config": ("console.commands.config:config_command", "Theme, language, keys of one's own."),
}


def hyphenated(token: str) -> str:
    """Flags are accepted in the reference's spelling (``--ckpt_dir``) and with hyphens."""
    return token.replace("_", "-")


class Verbs(click.Group):
    """A group whose verbs are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = VERBS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry[0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return guarded(cmd_name, command)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from console.version import version

        click.echo(f"avatop {version()}")
        ctx.exit()


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={
        "token_normalize_func": hyphenated,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
@click.option(
    "--theme",
    metavar="NAME|FILE",
    help="Colour theme of the console (default: AVATOP_THEME, or what the terminal can show).",
)
@click.option(
    "--lang",
    metavar="LANGUAGE",
    help="Language: en, zh_CN (default: AVATOP_LANG, the configuration's, or the locale's).",
)
@click.pass_context
def avatop(ctx: click.Context, theme: str | None, lang: str | None) -> None:
    """Run, watch, tune and rescue Live Avatar. Without a verb: the console."""
    ctx.obj = {"theme": theme, "lang": lang}
    if ctx.invoked_subcommand is None:
        from console.commands.console import open_console

        ctx.exit(open_console(theme=theme, lang=lang, read_only=asked()))
    _speak(lang)


def _speak(lang: str | None) -> None:
    """Verbs' sentences in a person's language; JSON and logs stay as they are.

    What cannot be spoken (no such catalogue, a terminal without UTF-8) is English here; the
    console says what is wrong with it.
    """
    from console import config, i18n
    from console.symbols import shows_unicode

    if not shows_unicode(os.environ):
        return
    with contextlib.suppress(i18n.LanguageError):
        own = config.load(config.place(os.environ)).lang
        i18n.use(i18n.choose(lang, os.environ, own))


def _said(text: str) -> str:
    from console.spoken import spoken

    return spoken(text)


def main(args: list[str] | None = None) -> None:
    """Entry point. A user's mistake is one line and exit 2, never a traceback."""
    try:
        code: Any = avatop.main(args=args, prog_name="avatop", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = USAGE
    except click.ClickException as error:
        click.echo(f"avatop: {_said(error.format_message())}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)
