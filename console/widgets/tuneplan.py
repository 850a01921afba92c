"""What the values being tuned would cost: a column per variant, bars per device, times, fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from textual.strip import Strip

from console import format as fmt
from console.i18n import n, t
from console.screens.jobs_ask import way_words
from console.spoken import spoken
from console.state import Model
from console.tuning import Variant, differing, fullest, sign_of
from console.widgets import plot
from console.widgets.bars import heading
from console.widgets.lines import Lines
from console.widgets.paint import Paint, Row
from console.widgets.preview import half_blocks
from engine.messages import END_STATES, OWNERS, JobRow
from engine.placement.alternatives import title
from engine.placement.place import Question
from engine.placement.plan import DevicePlan, Plan

#: The narrowest column of a variant; where they do not fit, the others take a line each.
NARROWEST: Final = 34
NAMES: Final = "ABCD"
Line = Row | Strip


def alike(plan: Plan) -> list[list[DevicePlan]]:
    """Neighbouring devices that hold the same, together."""
    held = groupby(plan.devices, key=lambda d: (d.by_owner, d.usable_bytes, d.predicted_bytes))
    return [list(group) for _key, group in held]


def _clauses(words: str, width: int) -> str:
    """As many of the clauses between dots as a row has room for."""
    kept = words.split(" · ")
    while len(kept) > 1 and fmt.cells(" · ".join(kept)) > width:
        kept.pop()
    return fmt.short(" · ".join(kept), width)


class PlanPane(Lines):
    """The plans of all variants, redrawn at each change."""

    SHOWS = frozenset({"jobs", "preview"})

    def __init__(
        self, model: Model, paint: Paint, variants: Callable[[], Sequence[Variant]],
        at: Callable[[], int], *, id: str,  # noqa: A002
    ) -> None:  # fmt: skip
        super().__init__(model, paint, id=id)
        self.variants = variants
        self.at = at

    def draw(self, width: int, height: int) -> Sequence[Strip]:
        variants, at = self.variants(), self.at()
        note = self.paint.row(60)
        if len(variants) > 1:
            note.put(t("{count} variants", count=len(variants)), "soft")
        lines = [heading(self.paint, t("Plan"), width, False, note)]
        room = height - 2
        side_by_side = len(variants) > 1 and width // len(variants) >= NARROWEST
        if side_by_side:
            each = width // len(variants)
            blocks = [
                self._block(variant, n, n == at, each - 2, room)
                for n, variant in enumerate(variants)
            ]
            lines += self._joined(blocks, each, width)
        else:
            others = [
                self._short(n, variant, width - 2) for n, variant in enumerate(variants) if n != at
            ]
            block = self._block(variants[at], at, True, width - 2, room - len(others))
            lines += self._joined([[*block[: room - len(others)], *others]], width, width)
        lines += [self.paint.blank(width)] * (height - 1 - len(lines))
        return [*lines[: height - 1], self._legend(variants, width)]

    def _joined(self, blocks: Sequence[Sequence[Line]], each: int, width: int) -> list[Strip]:
        gap, empty = self.paint.blank(1), self.paint.blank(each - 2)
        lines = []
        for y in range(max(len(block) for block in blocks)):
            parts: list[Strip] = []
            for block in blocks:
                line = block[y] if y < len(block) else empty
                parts += [gap, line.strip() if isinstance(line, Row) else line, gap]
            lines.append(Strip.join([*parts, self.paint.blank(width - len(blocks) * each)]))
        return lines

    # -- one variant -------------------------------------------------------------------------

    def _block(
        self, variant: Variant, number: int, here: bool, width: int, room: int
    ) -> list[Line]:
        paint, several = self.paint, len(self.variants()) > 1
        head = paint.row(width)
        if several:
            head.put(f"{NAMES[number]} ", "title.focus" if here else "title")
        found = variant.planned
        if found is not None:
            head.outside(spoken(title(found.plan)), "title.focus" if here else "title")
        rows: list[Line] = [head, self._verdict(variant, width)]
        if found is not None:
            rows.append(self._ground(variant, found.question, width))
        if variant.problem:
            rows += self._said(spoken(variant.problem), "state.act", width)[:4]
        if several and number:
            rows += self._differing(variant, width)
        if found is None:
            mended = variant.problem and variant.ways != []
            return [*rows, *self._fits(variant, here, width)] if mended else rows
        plan = found.plan
        groups = alike(plan)
        most = max(room - len(rows) - 9, 2)
        rows += [self._device(group, width) for group in groups[:most]]
        if len(groups) > most:
            rest = sum(len(group) for group in groups[most:])
            said = n("and {count} more device", "and {count} more devices", rest)
            rows.append(paint.row(width).put(said, "soft"))
        if plan.host is not None and plan.host.pinned_bytes:
            row = paint.row(width).put(fmt.fit(t("host, pinned"), 14), "soft")
            rows.append(row.number(plan.host.pinned_bytes / fmt.GIB, "GiB"))
        rows += self._times(variant, width)
        tried = self._tried(variant, width)
        if not plan.fits:
            rows += self._misfit(variant, here, width, room - len(rows) - len(tried))
        rows += tried
        left = room - len(rows) - 1
        if variant.frame is not None and left >= 5:
            rows += self._frame(variant, width, min(left, 14))
        return rows

    def _verdict(self, variant: Variant, width: int) -> Row:
        row = self.paint.row(width)
        if variant.problem:
            return row.put("✗ ", "state.act").put(t("cannot be planned"), "state.act")
        if variant.planned is None:
            return row.put(t("reading the devices and the checkpoint"), "soft")
        plan = variant.planned.plan
        held, usable = fullest(plan)
        if plan.fits and usable is None:
            said = t("may fit: how much it may hold is not known")
            return row.put("? ", "state.watch").put(fmt.short(said, row.left), "state.watch")
        if plan.fits:
            row.put("✓ ", "state.good").put(t("fits"), "state.good")
        elif plan.possible:
            row.put("✗ ", "state.act").put(t("does not fit"), "state.act")
        else:
            return row.put("✗ ", "state.act").put(t("cannot run"), "state.act")
        if usable:
            row.put("  ").whole(100 * held / usable, "%", "text" if plan.fits else "over")
            row.put(fmt.short(" " + t("of the fullest device"), row.left), "soft")
        return row

    def _ground(self, variant: Variant, question: Question, width: int) -> Row:
        """What is planned for: the model, and on which devices."""
        folder, shape = question.request.ckpt_dir, variant.values.get("plan_shape")
        model = str(shape or (Path(folder).name if folder else t("14B, no checkpoint is named")))
        row = self.paint.row(width).outside(model, "soft").put(" · ", "faint")
        if question.kind == "cpu":
            return row.put(t("CPU ranks of this host"), "soft")
        names = {device.name for device in question.devices}
        name = names.pop() if len(names) == 1 else None
        row.outside(f"{len(question.devices)}×{name or 'GPU'}", "soft")
        if variant.values.get("plan_devices") or variant.values.get("plan_memory"):
            row.put(" " + t("(supposed)"), "faint")
        return row

    def _differing(self, variant: Variant, width: int) -> list[Row]:
        """What it has otherwise than the first variant."""
        row = self.paint.row(width)
        for name, value in differing(variant.values, self.variants()[0].values).items():
            said = t("default") if value is None else str(value).replace("*", "×")
            if row.left < len(name) + fmt.cells(said) + 3:
                row.put("…", "faint")
                break
            row.put("  " if row.x else "").put(name + " ", "soft").outside(said, "accent")
        return [row] if row.x else []

    def _device(self, group: Sequence[DevicePlan], width: int) -> Row:
        paint, device = self.paint, group[0]
        cpu = device.device == "cpu"
        label = t("rank {rank}", rank=device.rank) if cpu else device.device
        if len(group) > 1:
            label += f"…{group[-1].rank}"
        row = paint.row(width).outside(fmt.fit(label, 10), "soft")
        usable, held = device.usable_bytes, device.predicted_bytes
        over = usable is not None and held + device.margin_bytes > usable
        tail = paint.row(width).put(" ").raw(fmt.gib(held).rjust(5), "over" if over else "text")
        tail.put(" / ", "unit").raw(fmt.gib(usable).ljust(4), "soft").put(" GiB", "unit")
        cells = width - row.x - tail.x
        if cells >= 6:
            parts = [(o, float(device.by_owner[o])) for o in OWNERS if device.by_owner.get(o)]
            top = float(max(usable or 0, held))
            row.cells(plot.bar(paint, parts, cells, top, float(usable) if usable else None))
        return row.right(tail)

    def _times(self, variant: Variant, width: int) -> list[Row]:
        found = variant.planned
        assert found is not None
        paint = self.paint
        rows: list[Row] = []
        for name, seconds in ((t("a clip"), found.clip), (t("all clips"), found.total)):
            row = paint.row(width).put(fmt.fit(name, 14), "soft")
            if seconds is None:
                row.put(fmt.NA, "na")
                if not rows:
                    why = t("no run of two clips yet")
                    row.put("  ").put(fmt.short(why, row.left, paint.ellipsis), "soft")
            else:
                row.put(fmt.duration(seconds))
            rows.append(row)
        video = paint.row(width).put(fmt.fit(t("video"), 14), "soft")
        video.put(fmt.duration(found.length))
        frames = n("{count} frame", "{count} frames", found.frames)
        size = "{}×{}".format(*found.question.size)
        said = f"  {size}  {frames}"
        if found.cut_short:
            said += "  " + t("the sound ends first")
        rows.append(video.put(fmt.short(said, video.left), "soft"))
        return rows

    def _misfit(self, variant: Variant, here: bool, width: int, room: int) -> list[Row]:
        """Why not, as far as there is room, and what would."""
        found = variant.planned
        assert found is not None
        fits = self._fits(variant, here, width)
        parts = fmt.wrap(fmt.inert(spoken(found.plan.reasons[0])), width)
        most = max(room - len(fits), 3)
        if len(parts) > most:
            parts[most - 1 :] = [fmt.fit(f"{parts[most - 1]} {parts[most]}", width).rstrip()]
        rows = [self.paint.row(width).outside(part, "state.watch") for part in parts]
        return [*rows, *fits]

    def _fits(self, variant: Variant, here: bool, width: int) -> list[Row]:
        """What would fit instead, the first with its key."""
        paint = self.paint
        if variant.ways is None:
            return [paint.row(width).put(t("looking for what fits"), "soft")]
        if not variant.ways:
            return [paint.row(width).put(t("Nothing near fits these devices."), "soft")]
        rows: list[Row] = []
        for at, way in enumerate(variant.ways[:3]):
            words = fmt.inert(way_words(way))
            parts = fmt.wrap(words, width - 2)[:2] if at == 0 else [_clauses(words, width - 2)]
            role = "soft" if way.alters_output else "text"
            for number, part in enumerate(parts):
                key = here and at == 0 and number == 0
                sign = f"{self.console_app.keymap.key_of('tune.fit')} " if key else "  "
                rows.append(paint.row(width).put(sign, "key").outside(part, role))
        return rows

    def _tried(self, variant: Variant, width: int) -> list[Row]:
        """The short run: state, speed, peak, likeness."""
        job = self.model.jobs.get(variant.job) if variant.job is not None else None
        if job is None:
            return []
        paint = self.paint
        row = paint.row(width).put(fmt.fit(t("tried, job {id}", id=job.id), 14), "soft")
        row.state(job.state)
        if job.state not in END_STATES:
            key = self.console_app.keymap.key_of("tune.cancel-run")
            row.put("  ").phrase(t("{key} cancels"), key=key)
        if variant.tried != variant.values:
            row.put(fmt.short(" " + t("(with other values)"), row.left), "faint")
        measured = paint.row(width).put(fmt.fit(t("speed, peak"), 14), "soft")
        peak = None if job.peak_bytes is None else job.peak_bytes / fmt.GIB
        rows = [row, measured.number(job.fps, "fps").put("  ").number(peak, "GiB")]
        if job.error and job.state == "failed":
            rows += self._said(spoken(job.error, self.model), "state.act", width)[:2]
        likeness = self._likeness(variant, job, width)
        return [*rows, likeness] if likeness is not None else rows

    def _likeness(self, variant: Variant, job: JobRow, width: int) -> Row | None:
        row = self.paint.row(width).put(fmt.fit("PSNR", 14), "soft")
        if variant.psnr is not None:
            if variant.psnr == float("inf"):
                return row.put(t("the same, pixel by pixel"), "state.good")
            return row.number(variant.psnr, "dB")
        if variant.psnr_said:
            return row.put(fmt.NA + " ", "na").outside(variant.psnr_said, "soft")
        return None if job.state != "done" else row.put(fmt.NA, "na")

    def _frame(self, variant: Variant, width: int, height: int) -> list[Strip]:
        if variant.frame is None:
            return []
        lines = half_blocks(self.paint, variant.frame, width, height)
        return [line.adjust_cell_length(width) for line in lines]

    # -- the rest ------------------------------------------------------------------------------

    def _short(self, number: int, variant: Variant, width: int) -> Row:
        """A variant in one line, where columns do not fit."""
        row = self.paint.row(width).put(f"{NAMES[number]} ", "title")
        if variant.planned is None:
            return row.put(t("cannot be planned") if variant.problem else t("reading"), "soft")
        plan = variant.planned.plan
        held, usable = fullest(plan)
        sign, role = sign_of(plan)
        row.put(f"{sign} ", role).raw(fmt.gib(held)).put(" / ", "unit")
        row.raw(fmt.gib(usable), "soft").put(" GiB  ", "unit")
        return row.outside(spoken(title(plan)), "soft")

    def _said(self, text: str, role: str, width: int) -> list[Row]:
        parts = fmt.wrap(fmt.inert(text), width)
        return [self.paint.row(width).outside(part, role) for part in parts]

    def _legend(self, variants: Sequence[Variant], width: int) -> Strip:
        row = self.paint.row(width).put(" ")
        plans = [variant.planned.plan for variant in variants if variant.planned is not None]
        held = {owner for plan in plans for d in plan.devices for owner in d.by_owner}
        for owner in OWNERS:
            if owner in held and row.left > len(owner) + 3:
                row.raw(self.paint.swatch(owner), f"owner.{owner}").put(f" {owner}  ", "soft")
        return row.strip()
