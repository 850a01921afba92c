"""The page that people see: gradio on top of ``Door``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import numpy as np

from console import format as fmt
from console.web.door import Door, DoorError, View, told
from engine.params import presets

T = TypeVar("T")
_PREVIEW_ROWS = 240
_CSS = """
#avatop-head h1 { margin-bottom: 0 }
#avatop-state { font-variant-numeric: tabular-nums }
footer { display: none !important }
"""
_WORDS = {
    "queued": "○ queued", "preflight": "◐ checking", "loading": "◐ loading", "running": "● running",
    "decoding": "● joining", "paused": "‖ paused", "done": "✓ done", "failed": "✗ failed",
    "cancelled": "⊘ cancelled", "interrupted": "↻ interrupted",
}  # fmt: skip


def page(door: Door) -> gr.Blocks:
    """The whole page. Its calls are named for programs too: plan, submit, status, cancel."""
    base = door.base
    with gr.Blocks(title="avatop", analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
        gr.Markdown("# avatop\nA portrait and a voice become a video.", elem_id="avatop-head")
        with gr.Row():
            with gr.Column(scale=2):
                image = gr.Image(label="Portrait", type="filepath", sources=["upload"], height=260)
                audio = gr.Audio(label="Voice", type="filepath", sources=["upload"])
                prompt = gr.Textbox(label="Prompt", lines=3, value=base.prompt)
                preset = gr.Dropdown(
                    [("as the server says", ""), *((p.name, p.name) for p in presets())],
                    label="Preset",
                    value="",
                )
                with gr.Accordion("Parameters", open=False):
                    size = gr.Textbox(label="Size (width*height)", placeholder=base.size)
                    clips = gr.Number(label="Clips", precision=0, value=None, minimum=1)
                    steps = gr.Number(label="Steps", precision=0, value=None, minimum=1)
                    seed = gr.Number(label="Seed", precision=0, value=None, minimum=0)
                    low = gr.Checkbox(label="Accept inputs of low quality", value=False)
                with gr.Row():
                    plan = gr.Button("Would it fit?")
                    submit = gr.Button("Submit", variant="primary")
                verdict = gr.Markdown()
            with gr.Column(scale=3):
                ticket = gr.Textbox(
                    label="Ticket", info="Keep it: with it you find your job again.", max_length=22
                )
                state = gr.Markdown("Nothing submitted yet.", elem_id="avatop-state")
                preview = gr.Image(label="Newest frame", interactive=False, height=260)
                video = gr.Video(label="Video", interactive=False)
                report = gr.JSON(label="Report", visible=False)
                cancel = gr.Button("Cancel the job", variant="stop", visible=False)
        values = [prompt, preset, size, clips, steps, seed, low]
        shown = [ticket, state, preview, video, report, cancel]
        clock = gr.Timer(1.0, active=False)
        _wire(door, blocks, clock, plan, submit, cancel, image, audio, verdict, values, shown)
    found: gr.Blocks = blocks
    return found


def _wire(
    door: Door,
    blocks: gr.Blocks,
    clock: gr.Timer,
    plan: gr.Button,
    submit: gr.Button,
    cancel: gr.Button,
    image: gr.Image,
    audio: gr.Audio,
    verdict: gr.Markdown,
    values: list[Any],
    shown: list[Any],
) -> None:
    ticket = shown[0]

    def on_plan(picture: str | None, *given: Any) -> str:
        path = Path(picture) if picture else None
        fits, words = _told(lambda: door.verdict(_named(given), path))
        return f"{'✓' if fits else '✗'} {words}"

    def on_submit(picture: str | None, voice: str | None, *given: Any) -> list[Any]:
        if not picture or not voice:
            raise gr.Error("A portrait and a voice are needed.")
        with Path(picture).open("rb") as first, Path(voice).open("rb") as second:
            view = _told(lambda: door.submit(_named(given), (picture, first), (voice, second)))
        return [*_seen(view), gr.Timer(active=True)]

    def on_look(number: str) -> list[Any]:
        if not number:
            return [*[gr.skip()] * len(shown), gr.Timer(active=False)]
        view = _told(lambda: door.look(number.strip()))
        return [*_seen(view), gr.Timer(active=not view.ended)]

    def on_load(request: gr.Request) -> list[Any]:
        return on_look(str(request.query_params.get("job", "")))

    def on_cancel(number: str) -> str:
        return _told(lambda: door.cancel(number))

    plan.click(on_plan, [image, *values], verdict, api_name="plan")
    submit.click(on_submit, [image, audio, *values], [*shown, clock], api_name="submit")
    ticket.submit(on_look, ticket, [*shown, clock], api_name="status")
    clock.tick(on_look, ticket, [*shown, clock], show_progress="hidden", api_visibility="private")
    cancel.click(on_cancel, ticket, verdict, api_name="cancel")
    blocks.load(on_load, None, [*shown, clock], api_visibility="private")


def _told(call: Callable[[], T]) -> T:
    try:
        return call()
    except DoorError as error:
        raise gr.Error(str(error), duration=None) from error


def _named(given: tuple[Any, ...]) -> dict[str, Any]:
    names = ("prompt", "preset", "size", "num_clip", "sample_steps", "base_seed")
    found = dict(zip(names, given, strict=False))
    return found | ({"accept_low_quality": True} if given[len(names)] else {})


def _seen(view: View) -> list[Any]:
    row = view.row
    picture = None
    if view.preview is not None:
        width, height, raw = view.preview
        picture = np.frombuffer(raw, np.uint8).reshape(height, width, 3)
        times = max(1, _PREVIEW_ROWS // height)
        picture = picture.repeat(times, 0).repeat(times, 1)
    return [
        view.ticket,
        _sentence(view),
        gr.skip() if picture is None else picture,
        None if view.video is None else str(view.video),
        # The report without the server's own paths.
        gr.JSON(told(view)["report"], visible=view.ended),
        gr.Button(visible=row.state not in ("done", "failed", "cancelled", "interrupted")),
    ]


def _sentence(view: View) -> str:
    row = view.row
    parts = [f"### {_WORDS.get(row.state, row.state)}"]
    if view.position is not None:
        parts.append(f"Number {view.position} in the queue.")
    if row.clips and row.state in ("running", "decoding", "done"):
        parts.append(f"Clip {row.clip} of {row.clips}.")
    if row.fps is not None:
        parts.append(f"{row.fps:.1f} fps.")
    if row.eta_seconds is not None:
        parts.append(f"About {fmt.duration(row.eta_seconds)} to go.")
    if row.error:
        parts.append(f"\n\n{_plain(row.error)}")
    if view.log and view.ended:
        parts.append("\n\n```\n" + "\n".join(line.replace("`", "'") for line in view.log) + "\n```")
    return " ".join(parts)


def _plain(text: str) -> str:
    """Text of programs and files never becomes markup."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()<>#+-.!|~" else c for c in text)


CSS = _CSS
