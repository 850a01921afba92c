"""The overview's parts by themselves: what is wrong, the pipeline, how room is shared."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from console import actions, stages
from console.config import Thresholds
from console.keys.kinds import PageEntry
from console.notices import Notice
from console.screens.overview import Wants, heights
from console.state import Model
from console.theme import load
from console.widgets import alarm, bars, device, pipeline, plot
from console.widgets.devices import arrange
from console.widgets.paint import Paint
from engine.messages import (
    AlertChanged,
    BlockDone,
    DeviceReading,
    DevicesSampled,
    Event,
    FindingRaised,
    LedgerUpdated,
    PlanMade,
    RankChanged,
    StepDone,
)
from tests.console.conftest import Opener
from tests.console.fake_client import GIB, Stage

LATE = AlertChanged(id="t:3", rule="temp-high", severity="warning", state="firing", since=10.0,
                    message="GPU 3 over 85 °C for 2 min")  # fmt: skip
CAUSE = FindingRaised(id="f1", finding="cuda_oom", severity="critical", job=17, rank=3,
                      cause="CUDA ran out of memory on GPU 3")  # fmt: skip


def told(stage: Stage, *more: Event, seconds: int = 20) -> Model:
    model = Model()
    for event in (*stage.history(seconds), *more):
        model.apply(event)
    model.now = stage.started + seconds
    return model


def test_all_well_takes_no_row() -> None:
    model = told(Stage(gpus=1))
    assert alarm.trouble(model) == []
    assert heights(120, 40, Wants(1, 3)).alarm == 0


def test_causes_come_before_alerts_and_what_is_seen_to_is_quiet() -> None:
    model = told(Stage(gpus=4), LATE, CAUSE)
    assert alarm.trouble(model) == [CAUSE, LATE]
    model.apply(replace(LATE, state="acknowledged"))
    model.apply(replace(CAUSE, resolved=True))
    assert alarm.trouble(model) == []
    assert [a.state for a in model.trouble.open_alerts()] == ["acknowledged"]
    model.apply(replace(LATE, state="resolved"))
    assert list(model.trouble.alerts) == []
    assert model.trouble.past[-1].id == "t:3"


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_what_is_wrong_stands_on_the_first_screen_with_the_next_key(
    opened: Opener, size: tuple[int, int]
) -> None:
    async with opened(Stage(gpus=4), size=size, seconds=4) as console:
        before = console.lines()[2]
        await console.play([LATE])
        row = console.lines()[2]
        assert "GPU 3 over 85 °C" in row
        assert "a acknowledge" in row
        await console.play([replace(LATE, state="acknowledged")])
        assert console.lines()[2] == before


def test_a_stage_that_waits_has_bubbles_and_the_slowest_is_named() -> None:
    model = told(Stage(gpus=4), seconds=20)
    job = model.current_job()
    assert job is not None
    found = stages.stages(model, job)
    assert [stage.device for stage in found] == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]
    assert all(stage.busy is not None and 0.2 < stage.busy < 0.35 for stage in found)
    late = stages.bottleneck(found, 2.0)
    assert late is not None
    assert late.stage.rank == 3
    assert late.extra == pytest.approx(0.034)  # it decodes as well
    assert stages.bottleneck(found, 50.0) is None
    paint = Paint(load("signature"))
    for width in (40, 80, 120, 200):
        text = pipeline.strip(paint, model, job, found, late, width).text()
        assert len(text) <= width
        assert all(f"{stage.block}" in text for stage in found)
        assert "bottleneck" in text
    text = pipeline.strip(paint, model, job, found, late, 240).text()
    assert "rank 3 on GPU 3, 34.0 ms a block more than the next (decodes for 30.0 ms)" in text


def paced(
    steps: tuple[float, ...], decode: float | None, *, vae_rank: int | None
) -> tuple[Model, list[stages.Stage], stages.Late | None, str]:
    """A pipeline whose ranks need ``steps`` seconds a block, and one of them ``decode`` more."""
    model = Model()
    ranks = max(len(steps), (vae_rank or 0) + 1)
    for event in Stage(gpus=ranks).history(1):
        if isinstance(event, StepDone | BlockDone):
            continue
        if isinstance(event, PlanMade):
            own = [{"rank": rank} for rank in range(len(steps))]
            event = replace(event, plan={**event.plan, "stages": own, "vae_rank": vae_rank})
        model.apply(event)
    for n in range(12):
        for rank, seconds in enumerate(steps):
            model.apply(StepDone(job=17, rank=rank, step=rank, block=n, seconds=seconds, t=9.0 + n))
        model.apply(BlockDone(job=17, clip=n // 4, block=n, seconds=0.5, rank=vae_rank,
                              decode_seconds=decode, t=9.4 + n))  # fmt: skip
    job = model.current_job()
    assert job is not None
    found = stages.stages(model, job)
    alone = stages.decoder(model, job, found)
    late = stages.bottleneck(found, 2.0, alone)
    text = pipeline.strip(Paint(load("signature")), model, job, found, late, 200, alone).text()
    return model, found, late, text


def test_who_also_decodes_is_the_bottleneck_though_another_s_steps_take_longer() -> None:
    _, found, late, text = paced((0.28, 0.25), 0.06, vae_rank=1)
    assert late is not None
    assert late.stage.rank == 1
    assert late.extra == pytest.approx(0.03)
    assert found[1].busy == pytest.approx((12 * 0.25 + 11 * 0.06) / 11.25)
    assert "rank 1 on GPU 1, 30.0 ms a block more than the next (decodes for 60.0 ms)" in text
    _, _, late, _ = paced((0.30, 0.25), 0.05, vae_rank=1)
    assert late is None  # even, with what it decodes


def test_nobody_is_blamed_whom_an_unknown_time_for_decoding_could_acquit() -> None:
    _, _, late, text = paced((0.28, 0.25), None, vae_rank=1)
    assert late is None
    assert "bottleneck" not in text
    _, _, late, _ = paced((0.28, 0.25), None, vae_rank=None)
    assert late is None
    # What decodes and is slowest by its steps alone is so with decoding too: by how much is open.
    _, _, late, text = paced((0.25, 0.28), None, vae_rank=1)
    assert late is not None
    assert (late.stage.rank, late.extra) == (1, None)
    assert "bottleneck: rank 1 on GPU 1" in text
    assert "ms" not in text


def test_a_device_that_only_decodes_can_be_the_bottleneck() -> None:
    model, found, late, text = paced((0.25, 0.26), 0.4, vae_rank=2)
    assert late is not None
    assert late.stage.rank == 2
    assert "VAE GPU 2 11" in text
    assert "rank 2 on GPU 2, 140 ms a block more than the next" in text
    job = model.current_job()
    assert job is not None
    for width in (40, 80, 120):
        row = pipeline.strip(Paint(load("signature")), model, job, found, late, width, late.stage)
        assert "VAE GPU 2 11 ◀ bottleneck" in row.text()
    (row_of_time,) = pipeline.times(Paint(load("signature")), [late.stage], late, 120)
    assert "43 % busy" in row_of_time.text
    assert "0.4 s a block" in row_of_time.text


def test_a_short_time_keeps_within_its_row() -> None:
    _, found, late, _ = paced((0.09163, 0.08114), None, vae_rank=None)
    for row in pipeline.times(Paint(load("signature")), found, late, 120):
        assert row.text.rstrip().endswith("s a block")
        assert len(row.text.rstrip()) < 120  # the last cell is the margin


def test_a_rank_whose_steps_are_not_known_yet_is_not_judged_by_what_it_decodes() -> None:
    model, _, _, _ = paced((0.25, 0.25), 0.4, vae_rank=1)
    model.tracks[17, 1].steps.clear()  # a console that came late
    job = model.current_job()
    assert job is not None
    found = stages.stages(model, job)
    assert [stage.block for stage in found] == [11, None]
    assert stages.bottleneck(found, 2.0) is None


def test_a_rank_that_another_process_took_over_is_judged_by_its_own_steps() -> None:
    model, _, _, _ = paced((0.5, 0.25), 0.02, vae_rank=1)
    track = model.tracks[17, 0]
    model.apply(LedgerUpdated(job=17, rank=0, device="cuda:0", by_owner={"kv": 8},
                              peak_by_owner={"kv": 9}, total=8, peak=9, t=29.0))  # fmt: skip
    assert track.memory.top is not None
    model.apply(RankChanged(job=17, rank=0, pid=9999, device="cuda:0", device_uuid="GPU-0000",
                            phase="spawned", role="", t=30.0))  # fmt: skip
    assert not track.steps
    assert track.ledger is None
    assert track.memory.top is None  # its own peak is held against its own plan


def test_rows_of_time_show_when_a_stage_worked() -> None:
    model = Model()
    for event in Stage(gpus=1).opening():
        model.apply(event)
    for n in range(8):  # works half of the time
        model.apply(StepDone(job=17, rank=0, step=0, block=n, seconds=0.5, t=100.0 + n))
    job = model.current_job()
    assert job is not None
    found = stages.stages(model, job)
    (row,) = pipeline.times(Paint(load("signature")), found, None, 120)
    text = row.text
    worked = text.count("█") + text.count("▓")
    assert worked == pytest.approx(text.count("·"), abs=30)
    assert worked > 20
    assert "53 %" in text  # from the first step's begin to the last one's end


@pytest.mark.parametrize("count", [2, 8, 16])
def test_every_stage_is_told_in_eighty_columns(count: int) -> None:
    model = told(Stage(gpus=count), seconds=30)
    job = model.current_job()
    assert job is not None
    found = stages.stages(model, job)
    for width in (80, 120):
        late = stages.bottleneck(found, 1.0)
        text = pipeline.strip(Paint(load("signature")), model, job, found, late, width).text()
        assert all(f"{stage.block}" in text for stage in found)
        assert "◀ bottleneck" in text


def test_a_ring_s_ranks_and_those_before_their_first_block_are_stages_too() -> None:
    model = told(Stage(gpus=3), seconds=1)
    job = model.current_job()
    assert job is not None
    model.tracks[17, 1].steps.clear()
    for rank, cut in ((0, 0.2), (2, 0.3)):  # each has half of every step's layers
        model.tracks[17, rank].steps.clear()
        for n in range(40):
            step = StepDone(job=17, rank=rank, step=n % 4, block=n // 4, seconds=cut, t=100.0 + n)
            model.tracks[17, rank].steps.append(step)
    model.apply(BlockDone(job=17, clip=2, block=9, seconds=1.0, rank=2, decode_seconds=0.1, t=139))
    found = stages.stages(model, job)
    assert [(s.rank, s.block) for s in found] == [(0, 9), (1, None), (2, 9)]
    late = stages.bottleneck(found, 2.0)
    assert late is not None
    assert (late.stage.rank, late.extra) == (2, pytest.approx(0.5))  # four steps of a block
    text = pipeline.strip(Paint(load("signature")), model, job, found, late, 120).text()
    assert "1 ▕●   ▏·" in text


@pytest.mark.parametrize(("width", "room"), [(80, 12), (120, 22), (200, 26)])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 12, 16])
def test_devices_are_laid_out_within_their_room(width: int, room: int, count: int) -> None:
    grid = arrange(count, width, room)
    assert grid.height(count) <= room
    assert width // grid.columns >= 38


def test_faults_of_a_device_are_told_when_they_occur() -> None:
    stage = Stage(gpus=1)
    model = told(stage)
    sample = next(e for e in stage.tick(stage.started + 21) if isinstance(e, DevicesSampled))
    paint = Paint(load("signature"))
    view = device.View(model.now, 60.0, limits=Thresholds())
    panel = model.panels()[0]
    assert "XID" not in device.title(paint, panel, 100, view).text()
    bad = replace(sample.devices[0], xid=79, ecc_uncorrected=2, throttle=("thermal",),
                  temperature_c=89.0)  # fmt: skip
    model.apply(replace(sample, devices=(bad,)))
    panel = model.panels()[0]
    title = device.title(paint, panel, 100, view)
    for text in ("XID 79", "ECC 2", "thermal"):
        assert text in title.text()
    assert ("89", "state.act") in [(text.strip(), role) for text, role in title.pieces]


def test_next_to_nothing_is_no_tower() -> None:
    """8 KiB of somebody else's on 140 GiB: a plot of nothing else must not be full of it."""
    model = Model()
    reading = DeviceReading(
        0, "NVIDIA H200", "GPU-0", "nvml", memory_total=140 << 30, memory_used=8192
    )
    model.apply(DevicesSampled(devices=(reading,), t=100.0))
    model.now = 100.0
    rows = device.full(
        Paint(load("signature")), model.panels()[0], 60, 9, device.View(model.now, 60.0)
    )
    filled = [
        row.text() for row in rows[1:-1] if any(role == "owner.foreign" for _, role in row.pieces)
    ]
    assert len(filled) == 1


@pytest.mark.parametrize(
    ("width", "form"),
    [(44, r"s\d"), (50, r"step \d"), (70, r"step \d of 4"), (90, r"step \d of 4, layer 1 of 4")],
)
def test_all_panels_of_a_width_tell_their_steps_in_one_form(width: int, form: str) -> None:
    model = told(Stage(gpus=4))
    for track in model.tracks.values():
        assert track.change is not None
        role = track.change.role.replace(" of 4", " of 4, layer 1 of 4").replace(" +", ",")
        track.change = replace(track.change, role=role)
    panels = [(panel, width) for panel in model.panels()]
    rows = device.titles(Paint(load("signature")), panels, device.View(model.now, 60.0))
    said = [re.search(r"● (.*?),? *(VAE)?  ", row.text()) for row in rows]
    assert all(match is not None and re.fullmatch(form, match[1]) for match in said), said


def test_a_level_is_drawn_as_its_upper_edge() -> None:
    paint = Paint(load("signature"))
    column = (50.0, (("temperature", 50.0),))
    rows = plot.area(paint, [column, column], 4, 100.0, outline=True)
    drawn = [row[0][0] for row in rows]
    assert drawn[0] == " "
    assert drawn[1] == " "
    assert drawn[2] != " "
    assert drawn[3] == " "


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_every_page_is_in_the_row_of_pages_and_one_sees_where_one_is(width: int) -> None:
    names = "overview jobs tune processes logs checkpoint incidents recordings batch release"
    entries = [
        PageEntry(name, key, "", name, "")
        for name, key in zip(names.split(), "1234567890", strict=True)
    ]
    row = bars.pages(
        Paint(load("signature")), "processes", entries, width, {"incidents": ("⚠2", "state.act")}
    )
    text = row.text()
    assert len(text) == width
    assert "4 processes" in text
    assert "⚠2" in text
    assert all(f" {entry.key}" in text for entry in entries)


def test_a_sentence_takes_the_room_that_it_needs_beside_the_first_keys() -> None:
    said = "Every page shows this recording now. Space plays, ] goes to what went wrong."
    place = bars.Place(("jobs", "app"), actions.Keymap(), False)
    paint = Paint(load("signature"))
    row = bars.footer(paint, place, Notice(0.0, said), 120).text()
    assert said in row
    assert "? help" in row
    assert bars.footer(paint, place, None, 120).text().startswith(row[:9])


def test_where_nothing_is_held_now_the_legend_still_names_what_fills_the_plot() -> None:
    def sampled(t: float, used: int) -> DevicesSampled:
        return DevicesSampled(t=t, devices=(DeviceReading(0, "H200", "u", "nvml", memory_total=GIB,
                                                          memory_used=used),))  # fmt: skip

    def rank(phase: str, t: float) -> RankChanged:
        return RankChanged(t=t, job=1, rank=0, pid=7, device="cuda:0", device_uuid="u", phase=phase)

    owners = dict.fromkeys(
        ("weights", "kv", "conditioning", "context", "slack", "other"), GIB // 16
    )
    booked = LedgerUpdated(job=1, rank=0, device="cuda:0", by_owner=owners, peak_by_owner={},
                           total=6 * GIB // 16, peak=6 * GIB // 16, t=2.0)  # fmt: skip
    model = Model()
    events = (sampled(0.0, GIB >> 20), rank("running", 1.0), booked, sampled(3.0, GIB // 2),
              rank("died", 4.0), sampled(5.0, GIB >> 20), rank("spawned", 6.0))  # fmt: skip
    for event in events:
        model.apply(event)
    (panel,) = model.panels()
    text = device.legend(Paint(load("signature")), panel, 70, device.View(6.0, 60.0)).text()
    assert "weights 0" in text
    assert "foreign" not in text
