"""How verbs speak: one JSON object on stdout, everything for a person on stderr.

Apart from ``common``, so that the console's first picture waits for no table of parameters.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click


def print_json(body: Mapping[str, Any]) -> None:
    """The one JSON object of a verb, on stdout."""
    json.dump(body, sys.stdout, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)
    sys.stdout.write("\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """A line for the person, on stderr."""
    click.echo(text, err=True)


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
