"""A checkpoint drawn: components as proportional bars, shards, what changed; its tensors."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Final

from console import format as fmt
from console.i18n import N_, n, t
from console.spoken import spoken
from console.state import Model
from console.weights import Weights, newer_than
from console.widgets.details import Details, Drawn, Fact, Said, Section
from console.widgets.paint import Paint, Row
from console.widgets.table import Column, Table
from engine.checkpoint.findings import Verdict
from engine.checkpoint.inspect import Component, Inspection
from engine.checkpoint.tensors import TensorRow

#: Component → the owner of memory whose colour it wears.
_COLOURS: Final = {
    "dit": "weights", "t5": "conditioning", "vae": "vae", "wav2vec2": "activations",
    "tokenizer": "other", "lora": "gathered",
}  # fmt: skip
_NAMES: Final = 19  # cells of a component's name
_FILES: Final = 12  # changed files that are listed


class CheckpointDetails(Details):
    """One checkpoint. ``weights`` is None until its headers are read."""

    SHOWS = frozenset({"checkpoint", "jobs"})
    TITLE = N_("Checkpoint")

    def __init__(self, model: Model, paint: Paint) -> None:
        super().__init__(model, paint, id="weights")
        self.weights: Weights | None = None
        self.verdict: tuple[Verdict, bool, float] | None = None  # what, deep, when
        self.since_read: list[Path] = []  # files that changed since they were read
        self.reading = False

    def sections(self, width: int) -> Sequence[Section]:
        weights = self.weights
        if weights is None:
            if self.reading:
                return [Section("", [Said(t("Reading the headers …"), "soft")])]
            return [Section("", [Drawn(self._hint(width))])]
        if weights.problem is not None or weights.inspection is None:
            why = spoken(weights.problem) if weights.problem is not None else ""
            said = [Said(weights.place.folder), Said(why, "state.act")]
            told = [] if self.verdict is None else [self._verified()]
            return [Section("", [*said, Drawn(self._hint(width))]), *told]
        found = weights.inspection
        sections = [
            (self._components(found, width), False),
            self._changed(weights),
            (self._verified(), self.verdict is not None),
        ]
        if found.missing:
            gone = [Said(f"{name}: {path}", "state.act") for name, path in found.missing.items()]
            sections.insert(0, (Section(t("Missing"), gone), True))
        parts = [self._whole(found, width)]
        parts += [section for section, news in sections if news]  # on small screens all one sees
        parts += [section for section, news in sections if not news]
        shards = [s for component in found.components for s in component.shards]
        if shards:
            top = max(shard.bytes for shard in shards)
            shown = [
                line
                for shard in shards
                for line in (
                    Drawn(self._bar("weights", shard.file, shard.bytes, top, width, wide=True)),
                    Said("  " + ", ".join(shard.holds), "soft"),
                )
            ]
            parts.append(Section(n("{count} shard", "{count} shards", len(shards)), shown))
        return parts

    def _hint(self, width: int) -> Row:
        row = self.paint.row(max(width, 1))
        key = self.console_app.keymap.key_of("checkpoint.another")
        return row.phrase(t("Press {key} to choose a checkpoint."), key=key)

    def _whole(self, found: Inspection, width: int) -> Section:
        """All of it as one bar, and its name."""
        total = sum(c.bytes for c in found.components)
        params = sum(c.params or 0 for c in found.components)
        row = self.paint.row(max(width, 1))
        cells, done = max(width, 1), 0
        edge = 0
        for component in found.components:
            edge += component.bytes
            last = round(edge / total * cells) if total else 0
            owner = _COLOURS.get(component.name, "other")
            row.raw(self.paint.swatch(owner) * (last - done), f"owner.{owner}")
            done = max(last, done)
        head = self.paint.row(max(width, 1)).put(found.family, "title.focus").put("  ")
        head.size(total).put("  ")
        head.put(_count(params), "text").put(" " + t("parameters"), "unit")
        return Section("", [Drawn(head), Said(found.dir, "soft"), Drawn(row)])

    def _components(self, found: Inspection, width: int) -> Section:
        top = max((c.bytes for c in found.components), default=0)
        lines: list[Fact | Said | Drawn] = []
        for component in found.components:
            owner = _COLOURS.get(component.name, "other")
            row = self._bar(owner, component.name, component.bytes, top, width)
            lines.append(Drawn(_told(row, component)))
            for part in component.parts:
                inner = self._bar(owner, f"  {part.name}", part.bytes, top, width)
                lines.append(Drawn(inner.put(f"{part.tensors:>6,}", "soft")))
        return Section(t("Components"), lines)

    def _bar(
        self, owner: str, name: str, size: int, top: int, width: int, *, wide: bool = False
    ) -> Row:
        """Name, a bar against the largest, GiB."""
        row = self.paint.row(max(width, 1))
        room = min(40, width // 2) if wide else _NAMES
        row.outside(fmt.fit_left(name, room) if wide else fmt.fit(name, room)).put(" ")
        cells = max(min(width - room - (12 if wide else 27), 40), 4)
        filled = max(round(size / top * cells), 1 if size else 0) if top else 0
        row.raw(self.paint.swatch(owner) * filled, f"owner.{owner}")
        row.put(("·" if self.paint.unicode else ".") * (cells - filled), "rule").put(" ")
        return row.size(size, 6).put(" ")

    def _changed(self, weights: Weights) -> tuple[Section, bool]:
        """What is another on disk than what was loaded, or read here; whether anything is."""
        folder = str(weights.layout.root) if weights.layout is not None else weights.place.folder
        told = self.model.production.checkpoints
        event = told.get(folder) or told.get(weights.place.folder)
        mine = [
            job for job in self.model.live_jobs()
            if str(job.request.get("ckpt_dir") or "") in (folder, weights.place.folder)
        ]  # fmt: skip
        if event is not None and any((job.started or 0) > event.t for job in mine):
            event = None  # it was loaded anew since
        lines: list[Fact | Said | Drawn] = []
        if event is not None:
            jobs = ", ".join(map(str, event.jobs)) or "–"
            lines.append(
                Said(
                    t("Changed at {time} after it was loaded; jobs: {jobs}.",
                      time=fmt.clock(event.t), jobs=jobs),
                    "state.act",
                )
            )  # fmt: skip
            lines += [Said(f"  {name}", "state.watch") for name in event.files[:_FILES]]
        else:
            for job in mine:
                if job.started is None:
                    continue
                for path in newer_than(weights, job.started)[:_FILES]:
                    why = t("{file} was written after job {id} began.", file=path.name, id=job.id)
                    lines.append(Said(why, "state.act"))
        if self.since_read:
            again = t("Changed since it was read here:")
            lines.append(Said(again, "state.watch"))
            lines += [Said(f"  {path.name}", "state.watch") for path in self.since_read[:_FILES]]
        changes = bool(lines)
        if not changes:
            lines.append(Said(t("Nothing has changed since it was read."), "state.good"))
        return Section(t("On disk"), lines), changes

    def _verified(self) -> Section:
        title = t("Verification")
        key = self.console_app.keymap.key_of
        if self.verdict is None:
            quick = self.paint.row(200).put(key("checkpoint.verify"), "key").put("  ")
            quick.put(t("checks names, shapes, types, completeness"), "soft")
            deep_row = self.paint.row(200).put(key("checkpoint.verify-values"), "key").put("  ")
            deep_row.put(t("reads every value of the DiT too, in search of NaN"), "soft")
            return Section(title, [Drawn(quick), Drawn(deep_row)])
        verdict, deep, when = self.verdict
        time = fmt.clock(when)
        if verdict.ok:
            said = (
                t("Usable, every value read ({time}).", time=time)
                if deep
                else t("Usable by its headers ({time}).", time=time)
            )
        else:
            said = t("Unusable ({time}).", time=time)
        lines: list[Said] = [Said(said, "state.good" if verdict.ok else "state.act")]
        for found in verdict.findings:
            role = "state.act" if found.severity == "error" else "state.watch"
            tensor = f" ({found.tensor})" if found.tensor else ""
            lines.append(Said(f"{found.file}{tensor}: {spoken(found.problem)}", role))
            lines.append(Said(f"  {spoken(found.remedy)}", "soft"))
        return Section(title, lines)


def _told(row: Row, component: Component) -> Row:
    count = fmt.NA if component.tensors is None else f"{component.tensors:,}"
    row.put(f"{count:>6}", "na" if component.tensors is None else "text").put(" ")
    types = ", ".join(component.dtypes or ())
    return row.put(types, "soft")


def _count(value: int) -> str:
    """Parameters as a person says them: 16.2 B, 3.4 M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{fmt.significant(value / size)} {unit}"
    return str(value)


class Tensors(Table[TensorRow]):
    """Every tensor; the filter searches names, ``size>1gib`` and ``type`` compare."""

    TITLE = N_("Tensors")

    def __init__(self, model: Model, paint: Paint, details: CheckpointDetails) -> None:
        super().__init__(model, paint, id="tensors")
        self.details = details

    def rows(self) -> Sequence[TensorRow]:
        weights = self.details.weights
        return () if weights is None else weights.tensors

    def key(self, item: TensorRow) -> Hashable:
        return (item.component, item.name)

    def words_of(self, item: TensorRow) -> str:
        return f"{item.component} {item.part} {item.name} {item.dtype} {item.file}"

    def empty(self, row: Row) -> Row:
        reading = self.details.reading
        text = t("Reading the headers …") if reading else t("No tensors; the checkpoint says why.")
        return row.put(text, "soft")


def _component(row: Row, item: TensorRow, model: Model) -> None:
    del model
    row.outside(item.component, f"owner.{_COLOURS.get(item.component, 'other')}")


def _type(row: Row, item: TensorRow, model: Model) -> None:
    del model
    row.put(item.dtype, "soft")


def _shape(row: Row, item: TensorRow, model: Model) -> None:
    del model
    row.put("×".join(map(str, item.shape)) or "–")


def _size(row: Row, item: TensorRow, model: Model) -> None:
    del model
    row.size(item.bytes, 5)


def _file(row: Row, item: TensorRow, model: Model) -> None:
    del model
    row.ending(item.file, "faint", 30)


def _name(row: Row, item: TensorRow, model: Model) -> None:
    del model
    row.ending(item.name)


Tensors.COLUMNS = (
    Column(N_("component"), 11, _component, least=64, value=lambda i: i.component),
    Column(N_("type"), 6, _type, least=72, value=lambda i: i.dtype),
    Column(N_("size"), 11, _size, right=True, inner=5, value=lambda i: i.bytes),
    Column(N_("shape"), 15, _shape, value=lambda i: len(i.shape)),
    Column(N_("file"), 32, _file, least=125, value=lambda i: i.file),
    Column(N_("name"), 0, _name, value=lambda i: i.name),
)
