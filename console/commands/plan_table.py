"""A planner's answer as a page of at most 80 columns that explains itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from console import format as fmt
from console.i18n import N_, t
from console.spoken import spoken
from engine.geometry import BLOCK_FRAMES
from engine.placement.alternatives import title
from engine.placement.plan import DevicePlan, Plan
from engine.placement.planner import Answer, ModeLine

WIDTH: Final = 80
_BAR: Final = 24
_INDENT: Final = 10

#: What a device holds in each mode.
_SAID: Final[dict[tuple[str, str], str]] = {
    ("single", ""): N_("one device holds all"),
    ("offload", ""): N_("one device; layers are copied from host memory as they are used"),
    ("tpp", ""): N_("a pipeline: each device holds all layers, and computes some of the steps"),
    ("tpp", "balanced"): N_("a pipeline cut evenly through steps and layers, the VAE counted"),
    ("tpp", "ring"): N_("a pipeline: each device holds some of the layers, for all steps"),
    ("tpp", "streamed"): N_("a pipeline whose layers are copied from host memory as they are used"),
    ("fsdp", ""): N_("each device holds a share of every layer; gathered as they are used"),
}

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


#: What the page's words mean, for those of them that it says.
_MEANT: Final[dict[str, str]] = {
    "kv": N_("keys and values: what attention looks back on, per step and layer"),
    "conditioning": N_("what the portrait, the voice and the prompt become for the DiT"),
    "activations": N_("what one step computes with, freed after it"),
    "vae": N_("encodes the portrait and decodes finished frames"),
    "streamed": N_("slots for weights and keys that are copied in from the host"),
    "gathered": N_("weights collected from the other ranks while they are used"),
    "context": N_("what the driver, or a rank's libraries, take before any work"),
    "slack": N_("what the allocator keeps beyond what is in use"),
    "other": N_("kernels, buffers for communication, and what has no owner"),
    "margin": N_("how far the measured peak may be above the prediction; kept free"),
    "transient": N_("what one gather takes for a moment, its copy included"),
    "pinned": N_("host memory that a device copies from; it cannot be swapped out"),
    "mirror": N_("finished blocks kept in host memory, so that a killed job can go on"),
}
#: Those of them that are no owners' names, and what alternatives alter, for the catalogue.
_NAMED: Final = (
    N_("margin"), N_("transient"), N_("pinned"), N_("mirror"),
    N_("dtype"), N_("KV precision"), N_("size"),
)  # fmt: skip


def render(answer: Answer) -> str:
    """The whole page, without a trailing newline."""
    lines: list[str] = []
    for part in (_verdict, _devices, _host, _others, _modes, _words):
        made = list(part(answer))
        if made:
            lines += [*made, ""]
    return "\n".join(lines[:-1])


def _verdict(answer: Answer) -> Iterator[str]:
    """What it is, whether it fits and why not; what else was to be said."""
    plan, question = answer.plan, answer.question
    size = "{}*{}".format(*question.size)
    if answer.fits:
        named = spoken(title(plan))
        if answer.unbuilt:
            yield t("It would fit: {plan}", plan=named)
        elif any(device.usable_bytes is None for device in plan.devices):
            yield t("It may fit: {plan}", plan=named)
        else:
            yield t("It fits: {plan}", plan=named)
    elif plan.possible:
        yield t("It does not fit: {plan}", plan=spoken(title(plan)))
    else:
        yield t("It cannot run here: {plan}", plan=spoken(title(plan)))
    yield t(
        "{layers} layers in {dtype}, keys and values in {kv} · {size} · {steps} steps",
        layers=question.shape.num_layers, dtype=plan.dtype, kv=plan.kv_dtype, size=size,
        steps=plan.sample_steps,
    )  # fmt: skip
    if answer.measured is not None and answer.measured.fits:
        yield from _item(_ended(answer.measured.sentence))
    for reason in answer.reasons[:4]:
        yield from _item(_ended(reason))
    if len(answer.reasons) > 4:
        yield from _item(t("and {count} more reasons (--json)", count=len(answer.reasons) - 4))
    for reason in answer.unbuilt:
        yield from _item(_ended(reason))
    for remark in plan.remarks:
        yield from fmt.wrap(spoken(remark), WIDTH)


def _devices(answer: Answer) -> Iterator[str]:
    plan = answer.plan
    unit = 1 << 30 if max(d.predicted_bytes for d in plan.devices) >= 1 << 30 else 1 << 20
    name = "GiB" if unit == 1 << 30 else "MiB"
    usable_word = fmt.right(t("usable"), 7)
    yield f"{fmt.fit(t('device'), 9)} {name:>7} {usable_word}  {t('predicted peak, by owner')}"
    names = {device.device for device in plan.devices}
    unnamed = names == {"cpu"} or len(names) < len(plan.devices)  # more ranks than devices
    for ranks in _alike(plan.devices):
        device = ranks[0]
        usable = fmt.NA if device.usable_bytes is None else _figure(device.usable_bytes, unit)
        label = f"rank {device.rank}" if unnamed else device.device
        label += f"…{ranks[-1].rank}" if len(ranks) > 1 else ""
        yield (
            f"{label:<9} {_figure(device.predicted_bytes, unit):>7} {usable:>7}  {_bar(device)}"
        ).rstrip()
        owners = sorted(device.by_owner.items(), key=lambda item: -item[1])
        text = ", ".join(f"{owner} {_figure(size, unit)}" for owner, size in owners)
        for line in fmt.wrap(f"{text}; {t('margin')} ±{_figure(device.margin_bytes, unit)}", 70):
            yield " " * _INDENT + line
    marks = {m: o for d in plan.devices for o in d.by_owner if (m := _MARKS.get(o, "?"))}
    key = "  ".join(f"{mark} {marks[mark]}" for mark in _MARKS.values() if mark in marks)
    yield from (" " * _INDENT + line for line in fmt.wrap(f"{key}  | {t('usable')}", 70))
    if plan.unshard is not None:
        unshard = plan.unshard
        told = t(
            "root {root}, largest unit {most}, transient {transient} GiB",
            root=_gib(unshard.root_unit_bytes), most=_gib(unshard.max_unit_bytes),
            transient=_gib(unshard.transient_bytes),
        )  # fmt: skip
        yield fmt.fit("unshard", _INDENT) + told


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
    memory = [
        t(what, size=_gib(size))
        for size, what in (
            (host.pinned_bytes, N_("{size} pinned")),
            (host.process_bytes, N_("{size} for the ranks")),
            (host.mirror_bytes, N_("{size} for the mirror")),
        )
        if size
    ]
    free = fmt.NA if host.available_bytes is None else _gib(host.available_bytes)
    told = t(
        "{memory}; {free} available; disk {disk}",
        memory=", ".join(memory), free=free, disk=_gib(host.disk_bytes),
    )  # fmt: skip
    for n, line in enumerate(fmt.wrap(told, WIDTH - _INDENT)):
        yield fmt.fit("" if n else t("host GiB"), _INDENT) + line
    yield fmt.fit(t("speed"), _INDENT) + _speed(answer.plan.seconds_per_block)


def _speed(seconds: float | None) -> str:
    if seconds is None:
        return t("n/a until this very placement has run here")
    per_second = fmt.significant(BLOCK_FRAMES / seconds)
    return t(
        "{fps} frames a second, {seconds} s a block",
        fps=per_second, seconds=fmt.significant(seconds),
    )  # fmt: skip


def _modes(answer: Answer) -> Iterator[str]:
    if len(answer.modes) < 2:
        return
    said = t("every mode on these devices at its best, the fastest first as far as arithmetic "
             "tells; GiB on the fullest device; the latents are the same in all")  # fmt: skip
    yield from fmt.wrap(said, WIDTH)
    known = all(device.usable_bytes is not None for device in answer.plan.devices)
    for line in sorted(answer.modes, key=lambda line: line.speed_order):
        yield _mode(line, this=line.title == title(answer.plan), known=known)
        for text in (t(_SAID.get((line.mode, line.variant), "")), line.flags):
            yield from (" " * 4 + part for part in fmt.wrap(text, WIDTH - 4))


def _mode(line: ModeLine, *, this: bool, known: bool) -> str:
    word = t("fits") if known else t("may fit")
    if not line.built:
        word = t("fits, not built")
    if not line.fits:
        word = t("does not fit") if line.possible else t("cannot run")
    speed = line.seconds_per_block
    told = "" if speed is None else f", {fmt.significant(BLOCK_FRAMES / speed)} fps"
    figure = f"{_gib(line.predicted_bytes):>6}"
    return (
        f"{'>' if this else ' '} {fmt.fit(spoken(line.title), 46)} {figure}  {word}{told}".rstrip()
    )


def _words(answer: Answer) -> Iterator[str]:
    """Words that stand on the page and that nobody need know."""
    plan, host = answer.plan, answer.plan.host
    said = {owner for device in plan.devices for owner in device.by_owner} | {"margin"}
    if plan.unshard is not None:
        said.add("transient")
    if host is not None:
        said |= {"pinned"} if host.pinned_bytes else set()
        said |= {"mirror"} if host.mirror_bytes else set()
    names = {word: t(word) if word in _NAMED else word for word in _MEANT if word in said}
    cells = max(fmt.cells(name) for name in names.values()) + 2
    yield t("words")
    for word, name in names.items():
        for number, part in enumerate(fmt.wrap(t(_MEANT[word]), WIDTH - 2 - cells)):
            yield "  " + fmt.fit("" if number else name, cells) + part


def _others(answer: Answer) -> Iterator[str]:
    if answer.fits:
        return
    if not answer.alternatives:
        yield (
            t("Nothing that was tried fits, not even smaller frames: take more or larger ones.")
            if answer.question.kind == "cuda" and _devices_short(answer.plan)
            else t("Nothing that was tried fits, not even smaller frames: take a larger host.")
        )
        return
    yield t("what would fit, nearest first")
    for altered, group in groupby(answer.alternatives, key=lambda one: one.alters_output):
        what = t(" and ").join(t(one) for one in altered)
        yield "  " + (
            t("changes the output: {what}", what=what) if altered else t("output unchanged")
        )
        for one in group:
            peak = max(d.predicted_bytes for d in one.plan.devices)
            note = "" if one.built else f" ({t('not built')})"
            yield from (
                ("    " if n == 0 else "      ") + text
                for n, text in enumerate(fmt.wrap(f"{one.flags}: {_gib(peak)} GiB{note}", 74))
            )


def _devices_short(plan: Plan) -> bool:
    """Whether devices lack memory, and not the host alone."""
    return not plan.possible or any(
        device.usable_bytes is not None
        and device.predicted_bytes + device.margin_bytes > device.usable_bytes
        for device in plan.devices
    )


def _ended(text: str) -> str:
    return spoken(f"{text}.")


def _item(text: str) -> Iterator[str]:
    for n, line in enumerate(fmt.wrap(text, WIDTH - 4)):
        yield ("  - " if n == 0 else "    ") + line


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"


def _figure(size: int, unit: int) -> str:
    return f"{size / unit:.2f}" if unit == 1 << 30 else f"{size / unit:.0f}"
