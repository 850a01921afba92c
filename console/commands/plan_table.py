"""A planner's answer as a page of at most 80 columns that explains itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from console import format as fmt
from engine.placement.alternatives import title
from engine.placement.plan import DevicePlan
from engine.placement.planner import Answer, ModeLine

WIDTH: Final = 80
_BAR: Final = 24
_INDENT: Final = 10

#: Owners in the order of a bar, each with its own mark, so that no colour is needed.
_MARKS: Final[dict[str, str]] = {
    "weights": "W",
    "streamed": "S",
    "gathered": "G",
    "kv": "K",
    "conditioning": "C",
    "activations": "A",
    "vae": "V",
    "context": "x",
    "slack": "s",
    "other": "o",
}


def render(answer: Answer) -> str:
    """The whole page, without a trailing newline."""
    lines: list[str] = []
    for part in (_head, _devices, _host, _verdict, _modes, _others):
        made = list(part(answer))
        if made:
            lines += [*made, ""]
    return "\n".join(lines[:-1])


def _head(answer: Answer) -> Iterator[str]:
    plan, question = answer.plan, answer.question
    size = "{}*{}".format(*question.size)
    yield f"{title(plan)}"
    yield (
        f"{question.shape.num_layers} layers in {plan.dtype}, keys and values in {plan.kv_dtype} · "
        f"{size} · {plan.sample_steps} steps"
    )
    for remark in plan.remarks:
        yield from fmt.wrap(remark, WIDTH)


def _devices(answer: Answer) -> Iterator[str]:
    plan = answer.plan
    unit = 1 << 30 if max(d.predicted_bytes for d in plan.devices) >= 1 << 30 else 1 << 20
    name = "GiB" if unit == 1 << 30 else "MiB"
    yield f"{'device':<9} {name:>7} {'usable':>7}  predicted peak, by owner"
    shared = plan.devices[0].device == "cpu"
    for ranks in _alike(plan.devices):
        device = ranks[0]
        usable = fmt.NA if device.usable_bytes is None else _figure(device.usable_bytes, unit)
        label = f"rank {device.rank}" if shared else device.device
        label += f"…{ranks[-1].rank}" if len(ranks) > 1 else ""
        yield (
            f"{label:<9} {_figure(device.predicted_bytes, unit):>7} {usable:>7}  {_bar(device)}"
        ).rstrip()
        owners = sorted(device.by_owner.items(), key=lambda item: -item[1])
        text = ", ".join(f"{owner} {_figure(size, unit)}" for owner, size in owners)
        for line in fmt.wrap(f"{text}; margin ±{_figure(device.margin_bytes, unit)}", 70):
            yield " " * _INDENT + line
    marks = {m: o for d in plan.devices for o in d.by_owner if (m := _MARKS.get(o, "?"))}
    key = "  ".join(f"{mark} {marks[mark]}" for mark in _MARKS.values() if mark in marks)
    yield from (" " * _INDENT + line for line in fmt.wrap(f"{key}  | usable", 70))
    if plan.unshard is not None:
        unshard = plan.unshard
        yield (
            f"unshard   root {_gib(unshard.root_unit_bytes)}, largest unit "
            f"{_gib(unshard.max_unit_bytes)}, transient {_gib(unshard.transient_bytes)} GiB"
        )


def _alike(devices: Sequence[DevicePlan]) -> list[list[DevicePlan]]:
    """Neighbours that hold the same are told together."""
    found: list[list[DevicePlan]] = []
    for device in devices:
        last = found[-1][-1] if found else None
        if last and (last.by_owner, last.usable_bytes) == (device.by_owner, device.usable_bytes):
            found[-1].append(device)
        else:
            found.append([device])
    return found


def _bar(device: DevicePlan) -> str:
    """Owners to scale; ``|`` stands where usable memory ends."""
    if not device.predicted_bytes:
        return ""
    usable = device.usable_bytes
    scale = max(device.predicted_bytes, usable or 0) / _BAR
    filled, held = "", 0
    for owner, mark in _MARKS.items():
        held += device.by_owner.get(owner, 0)
        filled += mark * (round(held / scale) - len(filled))
    cells = filled.ljust(_BAR, "·" if usable else " ")
    if usable is None:
        return filled
    edge = round(usable / scale)
    share = f"{100 * device.predicted_bytes / usable:.0f} %"
    return f"{cells[:edge]}|{cells[edge:]} {share}"


def _host(answer: Answer) -> Iterator[str]:
    host = answer.plan.host
    if host is None:
        return
    parts = [f"pinned {_gib(host.pinned_bytes)}"]
    if host.process_bytes:
        parts.append(f"ranks {_gib(host.process_bytes)}")
    parts.append(f"disk {_gib(host.disk_bytes)}")
    free = fmt.NA if host.available_bytes is None else f"{_gib(host.available_bytes)} GiB"
    yield f"host      {', '.join(parts)} GiB; available {free}"
    seconds = answer.plan.seconds_per_block
    told = "n/a, not measured here yet" if seconds is None else f"{fmt.significant(seconds)} s"
    yield f"a block   {told}"


def _verdict(answer: Answer) -> Iterator[str]:
    if answer.fits:
        yield "It fits." if not answer.unbuilt else "It would fit."
    else:
        yield "It does not fit."
    if answer.measured is not None and answer.measured.fits:
        yield from _item(answer.measured.sentence + ".")
    for reason in answer.reasons[:4]:
        yield from _item(reason + ".")
    if len(answer.reasons) > 4:
        yield from _item(f"and {len(answer.reasons) - 4} more reasons (--json)")
    for reason in answer.unbuilt:
        yield from _item(f"{reason}.")


def _modes(answer: Answer) -> Iterator[str]:
    if len(answer.modes) < 2:
        return
    yield "every mode on these devices (the latents are the same in all)"
    for line in answer.modes:
        yield _mode(line)
        yield from (" " * 4 + text for text in fmt.wrap(line.flags, WIDTH - 4))


def _mode(line: ModeLine) -> str:
    word = "does not fit" if not line.fits else "fits" if line.built else "fits, not built"
    speed = "" if line.seconds_per_block is None else f" {fmt.duration(line.seconds_per_block)}"
    figure = f"{_gib(line.predicted_bytes):>6} GiB"
    return f"  {fmt.fit(line.title, 48)} {figure}  {word}{speed}".rstrip()


def _others(answer: Answer) -> Iterator[str]:
    if answer.fits:
        return
    if not answer.alternatives:
        yield "Nothing that was tried fits: take more or larger devices, or a smaller --size."
        return
    yield "what would fit, nearest first"
    for altered, group in groupby(answer.alternatives, key=lambda one: one.alters_output):
        what = " and ".join(altered)
        yield f"  {'output unchanged' if not altered else f'changes the output: {what}'}"
        for one in group:
            peak = max(d.predicted_bytes for d in one.plan.devices)
            note = "" if one.built else " (not built)"
            yield from (
                ("    " if n == 0 else "      ") + text
                for n, text in enumerate(fmt.wrap(f"{one.flags}: {_gib(peak)} GiB{note}", 74))
            )


def _item(text: str) -> Iterator[str]:
    for n, line in enumerate(fmt.wrap(text, WIDTH - 4)):
        yield ("  - " if n == 0 else "    ") + line


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"


def _figure(size: int, unit: int) -> str:
    return f"{size / unit:.2f}" if unit == 1 << 30 else f"{size / unit:.0f}"
