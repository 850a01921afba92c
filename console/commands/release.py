"""``avatop release``: versions, their validation, a rollout by stages, and the way back."""

from __future__ import annotations

import contextlib
import getpass
import json
import queue
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from console import exits
from console.commands.common import parameter_options, resolve_flags, source_options
from console.commands.release_show import history, list_command, show, status, weights
from console.commands.say import json_option, print_json, tell, tell_remark
from console.format import inert
from engine.messages import Event, ReleaseChanged, Reply
from engine.messages.commands import ReleaseCommand
from engine.remote.client import SocketClient

#: Seconds a command may take: hashing the weights of a 14B model from a slow disk.
_ANSWER_SECONDS: Final = 3600.0
_DRILL_SECONDS: Final = 600.0
_FOLLOW_SECONDS: Final = 6 * 3600.0

_VERSION = click.argument("version")
_force = click.option("--force", is_flag=True, help="Over gates that do not hold; audited.")


@click.group(short_help="Add, validate, roll out and take back versions of the model.")
def release() -> None:
    """A release is weights, LoRA, parameters, environment and memory cap under a version name.

    add, validate, start; then stages go on by themselves while every gate holds. rollback takes
    any stage back, and what was promoted last.
    """


for _reader in (list_command, show, status, history, weights):
    release.add_command(_reader)


@release.command()
@_VERSION
@source_options
@click.option(
    "--repository",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A git repository whose tag belongs to the release.",
)
@click.option(
    "--snapshot",
    "configuration",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A configuration file to keep, and to restore on the way back.",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="A variable of the ranks' environment.",
)
@click.option("--note", default="", help="A remark for those who read the history.")
@json_option
@parameter_options
def add(version: str, as_json: bool, **given: Any) -> None:
    """Keep a version: its files are hashed, its environment is noted; it never changes again.

    Takes the flags of "run" that say which model runs and how. --gpu_memory_cap is its cap.
    """
    options, remarks = _what_runs(**given)
    for remark in remarks:
        tell_remark(remark)
    _ask("add", version, as_json, options)


def addition_of(arguments: Sequence[str]) -> tuple[str, dict[str, Any], list[str]]:
    """What ``avatop release add`` with these arguments asks for: version, options, remarks on it.

    Raises:
        click.ClickException: they are refused; the message says why.
        ReleaseError: a version cannot have that name.
        click.exceptions.Exit: they ask for help.
    """
    from engine.release.model import check_version

    with add.make_context("avatop release add", list(arguments)) as context:
        given = dict(context.params)
        version = str(given.pop("version"))
        check_version(version)
        del given["as_json"]
        return version, *_what_runs(**given)


def _what_runs(
    preset: str | None,
    file: Path | None,
    repository: Path | None,
    configuration: tuple[Path, ...],
    variables: tuple[str, ...],
    note: str,
    **flags: Any,
) -> tuple[dict[str, Any], list[str]]:
    """The options of the command "add", and remarks on the flags."""
    from engine.parameters.request import DEFAULT_PROMPT
    from engine.release.model import JOB_ONLY, MODEL

    flags["prompt"] = DEFAULT_PROMPT  # a job's own: no remark about its absence
    resolved = resolve_flags(flags, file, preset, required=("ckpt_dir",))
    whole = resolved.request.to_dict()
    said = {name for name, source in resolved.sources.items() if source != "default"}
    options = {
        "model": {name: whole[name] for name in MODEL},
        "parameters": {
            n: whole[n] for n in sorted(said) if n in whole and n not in JOB_ONLY and n not in MODEL
        },
        "memory_cap": whole["gpu_memory_cap"],
        "repository": None if repository is None else str(repository.absolute()),
        "configuration": [str(path.absolute()) for path in configuration],
        "variables": dict(_variable(text) for text in variables),
        "note": note,
    }
    return options, list(resolved.remarks)


@release.command()
@_VERSION
@click.option(
    "--drill",
    "drills",
    multiple=True,
    metavar="NAME",
    help="A fault drill to run as well (avatop drill NAME); may be repeated.",
)
@click.option("--wait/--no-wait", default=True, help="Until it has ended (default), or not.")
@json_option
@click.pass_context
def validate(
    ctx: click.Context, version: str, drills: tuple[str, ...], wait: bool, as_json: bool
) -> None:
    """Run the checks of a version, and arm the gates by stable against itself.

    Exit 0: passed; 1: failed; 3: inconclusive, which is no pass.
    """
    results = {name: _drill(name) for name in drills}
    with contextlib.closing(_client()) as client:
        heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
        client.subscribe(heard.put)
        _send(
            client,
            ReleaseCommand(do="validate", version=version, options={"drills": results}, by=_user()),
        )
        if not wait:
            _told(as_json, {"version": version, "state": "validating"}, "it goes on")
            return
        _until_over(heard, version)
    from console.commands.release_show import validation_of

    body = validation_of(version)
    if as_json:
        print_json(body)
    else:
        from console.commands.release_show import gate_lines

        for line in gate_lines(body["gates"]):
            click.echo(line)
        tell(f"{inert(version)}: validation {body['state']}")
    codes = {"passed": exits.DONE, "failed": exits.FAILED}
    ctx.exit(codes.get(str(body["state"]), exits.REFUSED))


@release.command()
@_VERSION
@click.option("--by-hand", is_flag=True, help="Wait for a person at the end of every stage.")
@_force
@json_option
def start(version: str, by_hand: bool, force: bool, as_json: bool) -> None:
    """Begin a rollout: the version becomes the candidate, at the first stage."""
    _ask("start", version, as_json, {"by_hand": by_hand, "force": force})


@release.command()
@_force
@json_option
def advance(force: bool, as_json: bool) -> None:
    """Go on to the next stage; the last one's next is stable."""
    _ask("advance", "", as_json, {"force": force})


@release.command()
@click.option("--why", default="by hand", help="Kept in the history.")
@json_option
def pause(why: str, as_json: bool) -> None:
    """New jobs go to stable until the rollout is resumed."""
    _ask("pause", "", as_json, {"why": why})


@release.command()
@json_option
def resume(as_json: bool) -> None:
    """Go on with a paused rollout; the present stage begins anew."""
    _ask("resume", "", as_json, {})


@release.command()
@click.option(
    "--running",
    type=click.Choice(["finish", "pause", "requeue"]),
    help="Jobs of the version at work [default: as set, finish].",
)
@click.option("--why", default="by hand", help="Kept in the history.")
@json_option
def rollback(running: str | None, why: str, as_json: bool) -> None:
    """Take the candidate back, or what was promoted last. New jobs go to stable at once."""
    reply = _ask("rollback", "", as_json, {"running": running, "why": why})
    if as_json:
        return
    for left in reply.data.get("unfinished", ()):
        done = f"{left['clips']} of {left['of']} clips"
        click.echo(f"job {left['job']} {left['state']}, {done}: {inert(left['what_to_do'])}")


@release.command()
@click.argument("version", required=False, default="")
@_force
@json_option
def promote(version: str, force: bool, as_json: bool) -> None:
    """Make the candidate stable; without any stable version, name the first."""
    _ask("promote", version, as_json, {"force": force})


# -- asking the engine -----------------------------------------------------------------------


def _ask(do: str, version: str, as_json: bool, options: Mapping[str, Any]) -> Reply:
    with contextlib.closing(_client()) as client:
        command = ReleaseCommand(do=do, version=version, options=dict(options), by=_user())
        reply = _send(client, command)
    body = {"version": version or None, "state": reply.state, "message": reply.message}
    _told(as_json, {**body, **reply.data}, reply.message)
    return reply


def _send(client: SocketClient, command: ReleaseCommand) -> Reply:
    reply = client.send(command).result(_ANSWER_SECONDS)
    if not reply.ok:
        errors = {"refused": exits.Refused, "bad_input": exits.BadInput}
        raise errors.get(reply.state or "", exits.Failed)(inert(reply.message))
    return reply


def _client() -> SocketClient:
    from console.version import version
    from engine.remote.spawn import EngineNotStarted, attach_or_spawn

    try:
        return attach_or_spawn(version=version(), kind="verb")
    except (EngineNotStarted, OSError) as error:
        raise exits.Failed(str(error)) from error


def _until_over(heard: queue.SimpleQueue[Event], version: str) -> None:
    begun = False
    while True:
        try:
            event = heard.get(timeout=_FOLLOW_SECONDS)
        except queue.Empty as error:
            raise exits.Failed("the engine says nothing more of the validation") from error
        if type(event).__name__ == "EngineStopped":
            raise exits.Failed("the engine ended during the validation")
        if isinstance(event, ReleaseChanged) and event.version == version:
            if begun and event.state != "validating":
                return
            begun = begun or event.state == "validating"


def _drill(name: str) -> dict[str, Any]:
    """What ``avatop drill`` says, or why it says nothing."""
    from console.cli import VERBS

    if "drill" not in VERBS:
        return {"error": "this avatop has no fault drills"}
    command = [sys.executable, "-m", "console", "drill", name, "--json"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DRILL_SECONDS, check=False
        )
        body = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"error": f"the drill could not be run: {error}"}
    return body if isinstance(body, dict) else {"error": "the drill said nothing usable"}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise exits.BadInput(f"--env {inert(text)}: write NAME=VALUE")
    return name, value


def _user() -> str:
    """Who gives an order, by the system's name of the user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return "operator"


def _told(as_json: bool, body: Mapping[str, Any], text: str) -> None:
    if as_json:
        print_json(body)
    else:
        tell(inert(text))
