"""A command of the operator's for each verified output (B7): an argument list, never a shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from engine.batch.publish import sidecar_of
from engine.batch.rows import ItemRow
from engine.sentence import sentence

#: Names that ``{braces}`` and ``AVATOP_…`` variables carry.
PLACEHOLDERS: Final = (
    "output",
    "name",
    "audio",
    "image",
    "sidecar",
    "sha256",
    "key",
    "batch",
    "job",
    "frames",
)
_TAIL: Final = 4000  # characters of its last words that are told
_READ: Final = 1 << 16
_WORDS_SECONDS: Final = 1.0


class PostError(Exception):
    """A post-command that failed; says how."""


def check(command: Sequence[str]) -> None:
    """Look at an argument list before anything runs.

    Raises:
        ValueError: braces that name nothing, or an empty program.
    """
    if command and not command[0].strip():
        raise ValueError(sentence("the post-command names no program"))
    for part in command:
        for _, name, spec, conversion in string.Formatter().parse(part):
            if name is not None and (name not in PLACEHOLDERS or spec or conversion):
                known = ", ".join(f"{{{placeholder}}}" for placeholder in PLACEHOLDERS)
                raise ValueError(
                    sentence(
                        "{{{name}}} is no placeholder of a post-command; {known} are",
                        name=name,
                        known=known,
                    )
                )


def values_of(item: ItemRow) -> dict[str, str]:
    """What the placeholders mean for one published item."""
    output = Path(str(item.output))
    found = {
        "output": output,
        "name": item.name,
        "audio": item.audio,
        "image": item.image,
        "sidecar": sidecar_of(output),
        "sha256": item.sha256,
        "key": item.key,
        "batch": item.batch,
        "job": item.job,
        "frames": item.frames,
    }
    return {name: "" if value is None else str(value) for name, value in found.items()}


async def run_post(
    command: Sequence[str], values: Mapping[str, str], limit: float, folder: str
) -> None:
    """Run it to its end, in a process group of its own that is ended with it.

    Args:
        values: of the placeholders; also its environment as ``AVATOP_POST_<NAME>``.
        limit: seconds. folder: where it runs.

    Raises:
        PostError: it could not start, failed, or took too long.
    """
    arguments = [part.format_map(dict(values)) for part in command]
    env = {**os.environ, **{f"AVATOP_POST_{k.upper()}": v for k, v in values.items()}}
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            cwd=folder,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise PostError(
            sentence("{program} cannot be started: {error}", program=arguments[0], error=error)
        ) from error
    said = bytearray()
    reading = asyncio.ensure_future(_read(process, said))
    try:
        code = await asyncio.wait_for(process.wait(), limit)
    except TimeoutError:
        raise PostError(
            sentence(
                "{program} took over {limit:g} s and was ended", program=arguments[0], limit=limit
            )
        ) from None
    finally:
        # Whatever it started goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        # A grandchild that left the group may hold the pipe; its words are not waited for.
        await asyncio.wait([reading], timeout=_WORDS_SECONDS)
        reading.cancel()
    if code:
        words = said.decode(errors="replace").strip()[-_TAIL:]
        program = arguments[0]
        told: str = (
            sentence("{program} exited with code {code}", program=program, code=code)
            if code > 0
            else sentence("{program} was ended by signal {code}", program=program, code=-code)
        )
        raise PostError(sentence("{what}: {why}", what=told, why=words) if words else told)


async def _read(process: asyncio.subprocess.Process, said: bytearray) -> None:
    """Keep the end of what it says; never let it wait for a reader."""
    assert process.stdout is not None
    while chunk := await process.stdout.read(_READ):
        said += chunk
        del said[:-_TAIL]
