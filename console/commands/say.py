"""How verbs speak: one JSON object on stdout, everything for a person on stderr.

Apart from ``common``, so that the console's first picture waits for no table of parameters.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from console.i18n import t
from console.spoken import spoken

if TYPE_CHECKING:
    from engine.messages import Reply


def print_json(body: Mapping[str, Any]) -> None:
    """The one JSON object of a verb, on stdout."""
    json.dump(body, sys.stdout, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)
    sys.stdout.write("\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """A line for the person, on stderr."""
    click.echo(spoken(text), err=True)


def tell_remark(text: str) -> None:
    """A remark on what was asked for, on stderr."""
    tell(t("note: {remark}", remark=spoken(text)))


def tell_reply(reply: Reply, as_json: bool) -> None:
    """What the engine answered about one job."""
    if as_json:
        print_json({"job": reply.job, "state": reply.state})
    else:
        tell(reply.message)


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
