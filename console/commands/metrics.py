"""``avatop metrics``: Prometheus text, served on this host alone, or printed once."""

from __future__ import annotations

import threading

import click

from console.commands.say import json_option, print_json, tell
from console.exits import BadInput
from console.version import version
from engine.jobs.paths import Places
from engine.metrics.alone import Pages
from engine.metrics.server import HOST, PORT, MetricsServer
from engine.telemetry.devices import pick_source


@click.command(short_help="Serve Prometheus metrics on 127.0.0.1.")
@click.option("--once", is_flag=True, help="Print them and end.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    envvar="AVATOP_METRICS_PORT",
    help="Where to serve; 0 takes a free one, which is told.",
)
@json_option
def metrics(once: bool, port: int, as_json: bool) -> None:
    """Serve http://127.0.0.1:PORT/metrics until interrupted; nothing is served without this verb.

    A running engine's figures, or without one the devices and the jobs on record.
    """
    places = Places.of()
    picked = pick_source()
    try:
        pages = Pages(places.state, places.database, version(), picked)
        if once:
            text = pages.page()
            if as_json:
                print_json({"text": text})
            else:
                click.echo(text, nl=False)
            return
        try:
            server = MetricsServer(pages.page, port)
        except OSError as error:
            raise BadInput(
                f"--port {port}: {error.strerror or error} on {HOST}; choose another, or 0"
            ) from error
        server.start()
        try:
            if as_json:
                print_json({"url": server.url})
            tell(f"Serving {server.url} (Ctrl-C ends it).")
            threading.Event().wait()
        finally:
            server.stop()
    finally:
        picked.source.close()
