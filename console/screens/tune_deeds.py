"""What a person does on the tune page: type, take a fit or a preset, try, compare, submit, save."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from console import format as fmt
from console.i18n import n, t
from console.parts import Preview
from console.replanning import Way, mode_ways
from console.screens import jobs_deeds
from console.screens.dialog import Choice, Dialog
from console.screens.jobs_ask import way_words
from console.screens.tune_forms import PresetForm, ValueForm
from console.spoken import spoken
from console.tuning import (
    HARDWARE,
    PREVIEW_CLIPS,
    TUNED,
    Planned,
    Variant,
    fullest,
    ground_key,
    kept_values,
    planned,
    sign_of,
)
from console.widgets.jobs import mode_of
from engine import params
from engine.messages import Reply, Submit
from engine.params import Parameter
from engine.placement.alternatives import title

if TYPE_CHECKING:
    from console.app import AvatopApp
    from console.screens.tune import TunePage

_PAST: Final = 14  # earlier jobs that are offered
_WIDE: Final = 160  # pixels of a frame that is kept for the screen
_PLAN_ONLY: Final = "plan_"


def starting_values(app: AvatopApp) -> dict[str, Any]:
    """The newest job's values, else what the environment says."""
    ours = [job for job in app.model.jobs.values() if job.kind != "command" and job.request]
    newest = max(ours, key=lambda job: job.id, default=None)
    if newest is not None:
        return kept_values(newest.request)
    try:
        resolved = params.resolve({}, app.environ, required=(), check_paths=False)
    except params.ParamError:
        return {}
    return kept_values(resolved.request.to_dict())


def type_value(page: TunePage, parameter: Parameter | None) -> None:
    """Enter on a parameter: its value in a form."""
    if parameter is None:
        return
    app = page.console_app

    def done(answer: tuple[Any] | None) -> None:
        if answer is not None:
            page.take({parameter.name: answer[0]})

    value = page.present.values.get(parameter.name)
    app.push_screen(ValueForm(app.model, app.paint, parameter, value), done)


# -- other values ----------------------------------------------------------------------------


def fit(page: TunePage) -> None:
    """Take the nearest values that fit."""
    present, app = page.present, page.console_app
    page.wants_fit = None
    if present.reading or (present.planned is None and not present.problem):
        app.say(t("There is no plan to compare yet."), "soft")
    elif present.planned is not None and present.planned.plan.fits:
        app.say(t("There is nothing to mend: it fits."), "soft")
    elif present.ways is None:
        page.wants_fit = present
        app.say(t("What fits is still looked for; it is taken as soon as it is found."), "soft")
    elif not present.ways:
        app.say(t("Nothing near fits these devices."), "state.watch")
    else:
        _taken(page, present.ways[0])


def _taken(page: TunePage, way: Way) -> None:
    page.take(way.changes)
    page.console_app.say(t("Taken: {way}.", way=way_words(way)), "state.good")


def choose_fit(page: TunePage) -> None:
    """Choose among all that fits."""
    ways, app = page.present.ways, page.console_app
    if not ways:
        fit(page)
        return

    def done(choice: str | None) -> None:
        if choice not in (None, "leave"):
            _taken(page, ways[int(str(choice))])

    choices = [
        Choice(str(at), way_words(way), danger=bool(way.alters_output))
        for at, way in enumerate(ways)
    ]
    said = t("The nearest first; those that leave the output unchanged before the others.")
    app.push_screen(
        Dialog(app.model, app.paint, t("What would fit"), [said],
               [*choices, Choice("leave", t("Keep the values"))], escape="leave"),
        done,
    )  # fmt: skip


def modes(page: TunePage) -> None:
    """All modes for the present values; Enter takes one over."""
    from console.screens.modes import ModesScreen, Target, title_of

    app, found = page.console_app, page.present.planned
    if found is None:
        app.say(t("There is no plan to compare yet."), "soft")
        return
    plan = found.plan.to_dict()

    def done(taken: tuple[Target, Way] | None) -> None:
        if taken is not None:
            _taken(page, taken[1])

    heading = t("Modes for these values: {size}, {steps} steps",
                size="{}×{}".format(*found.question.size),
                steps=found.question.request.sample_steps)  # fmt: skip
    look = functools.partial(mode_ways, found.question, plan)
    targets = [Target("values", t("takes it over"))]
    app.push_screen(ModesScreen(app.model, app.paint, heading, look, targets, title_of(plan)), done)


def preset(page: TunePage) -> None:
    """Take the values of a preset over the present ones."""
    app = page.console_app
    known = params.presets()

    def done(choice: str | None) -> None:
        if choice not in (None, "leave"):
            chosen = params.find_preset(str(choice))
            page.take(chosen.values)
            app.say(t("Preset {name} is taken.", name=chosen.name), "state.good")

    names = max(len(preset.name) for preset in known)

    def offered(one: params.Preset) -> Choice:
        clips = fmt.right(n("{count} clip", "{count} clips", int(one.values["num_clip"])), 12)
        size = one.values["size"].replace("*", "×")
        row = f"{one.name:<{names}}  {size:<8}{clips}  "
        found = _foreseen(page, one)
        if found is None:
            return Choice(one.name, f"{row}  {fmt.NA}", about=spoken(one.purpose))
        held, usable = fullest(found.plan)
        figures = f"{sign_of(found.plan)[0]} {fmt.gib(held):>5} / {fmt.gib(usable)} GiB"
        time = fmt.duration(found.total)
        about = t("{purpose}; {length} of video; {plan}; all clips take {time}",
                  purpose=spoken(one.purpose), length=fmt.duration(found.length),
                  plan=spoken(title(found.plan)), time=time)  # fmt: skip
        return Choice(one.name, f"{row}{fmt.fit(figures, 20)} {time}", about=about)

    choices = [offered(one) for one in known]
    said = t("Its values replace the present ones; all others stay. Memory is that of the fullest "
             "device, then the time of all clips.")  # fmt: skip
    app.push_screen(
        Dialog(app.model, app.paint, t("Start from which preset?"), [said],
               [Choice("leave", t("Keep the values")), *choices]),
        done,
    )  # fmt: skip


def _foreseen(page: TunePage, one: params.Preset) -> Planned | None:
    """What the present values would cost with a preset's; None where that is not known here."""
    values = {**page.present.values, **one.values}
    ground = page.grounds.get(ground_key(values))
    try:
        return None if ground is None else planned(ground, values)
    except ValueError:
        return None  # values that contradict each other


def past(page: TunePage) -> None:
    """Start from the values of an earlier job."""
    app = page.console_app
    jobs = [job for job in app.model.jobs.values() if job.kind != "command" and job.request]
    jobs.sort(key=lambda job: -job.id)
    if not jobs:
        app.say(t("No job has run yet; there are presets to start from."), "soft")
        return

    def done(choice: str | None) -> None:
        if choice in (None, "leave"):
            return
        request = app.model.jobs[int(str(choice))].request
        fresh = kept_values(request)
        page.take({p.name: fresh.get(p.name) for p in TUNED if not _plans(p.name)})
        app.say(t("The values of job {id} are taken.", id=choice), "state.good")

    def said(job: Any) -> str:
        peak = "" if job.peak_bytes is None else f"  {fmt.gib(job.peak_bytes)} GiB"
        speed = "" if job.fps is None else f"  {fmt.significant(job.fps)} fps"
        state = fmt.word(job.state)
        return f"{job.id:>4}  {state:<12} {mode_of(job):<9} {job.size:<9}{speed}{peak}"

    choices = [Choice(str(job.id), said(job)) for job in jobs[:_PAST]]
    app.push_screen(
        Dialog(app.model, app.paint, t("Start from which run?"), [],
               [Choice("leave", t("Keep the values")), *choices]),
        done,
    )  # fmt: skip


def _plans(name: str) -> bool:
    return name.startswith(_PLAN_ONLY)


def save(page: TunePage) -> None:
    """Keep the present values as a preset of one's own."""
    app = page.console_app
    if app.refuses():
        return
    from engine.parameters.presets import presets_file, save_preset

    skipped = ("image", "audio", "prompt", "ckpt_dir", "output", "dump_latents")
    values = {
        name: value
        for name, value in page.present.values.items()
        if name not in skipped and not _plans(name)
    }
    file = presets_file(app.environ)
    about = t("Size, clips, steps and what else differs from the defaults go to {file}; inputs do "
              "not.", file=file)  # fmt: skip

    def done(answer: tuple[str, str] | None) -> None:
        if answer is None:
            return
        try:
            kept = save_preset(answer[0], answer[1], values, file)
        except (params.ParamError, OSError, ValueError) as error:
            app.say(t("The preset is not saved: {why}", why=spoken(error)), "state.act")
            return
        app.say(t("Preset {name} is saved.", name=kept.name), "state.good")

    app.push_screen(PresetForm(app.model, app.paint, about), done)


# -- jobs ------------------------------------------------------------------------------------


def _checked(page: TunePage, **changes: Any) -> dict[str, Any] | None:
    """The request of the present values, or None and a sentence about what is missing."""
    app = page.console_app
    flags = {k: v for k, v in page.present.values.items() if not _plans(k)}
    try:
        resolved = params.resolve({**flags, **changes}, None)
    except params.ParamError as error:
        app.say(" ".join(problem.text for problem in error.problems), "state.act")
        return None
    return resolved.request.to_dict()


def submit(page: TunePage) -> None:
    """Queue a job with the present values."""
    app = page.console_app
    if app.refuses():
        return
    request = _checked(page)
    if request is not None:
        said = t("The job is queued.")
        if any(page.present.values.get(p.name) is not None for p in HARDWARE):
            said = t(
                "The job is queued; it runs on the devices of this host, not on supposed ones."
            )
        app.command(Submit(request=request), said)


def preview(page: TunePage) -> None:
    """Queue a short job with the present values, and watch it for this variant."""
    app, variant = page.console_app, page.present
    if app.refuses():
        return
    clips = min(PREVIEW_CLIPS, int(variant.values.get("num_clip", PREVIEW_CLIPS)))
    request = _checked(page, num_clip=clips)
    if request is None:
        return
    request |= {"output": None, "dump_latents": None}
    tried = dict(variant.values)

    def answered(reply: Reply) -> None:
        app.said(reply, t("A short run is queued."))
        if reply.ok and reply.job is not None:
            variant.job, variant.tried = reply.job, tried
            variant.frame = None
            variant.psnr, variant.psnr_said, variant.compared = None, "", None
            page.pane.update()

    app.ask(Submit(request=request), answered)


def cancel_preview(page: TunePage) -> None:
    """Cancel this variant's short run, after asking."""
    app, job = page.console_app, page.model.jobs.get(page.present.job or 0)
    if job is None:
        key = app.keymap.key_of("tune.try")
        app.say(t("This variant has no short run; {key} begins one.", key=key), "soft")
        return
    jobs_deeds.cancel(app, [job], lambda: None)


def follow(page: TunePage, dirty: set[str]) -> None:
    """Short runs go on: keep their newest frame, compare them once they are done.

    Again wherever another run has become the first one.
    """
    model = page.model
    runs = {variant.job: variant for variant in page.variants if variant.job is not None}
    newest = model.preview
    if "preview" in dirty and newest is not None:
        watched = runs.get(newest.job)
        if watched is not None and _output(page, watched) is None:
            watched.frame = newest
    if "jobs" not in dirty:
        return
    done = [v for v in runs.values() if _output(page, v) is not None]
    first = next((v for v in page.variants if v in done), None)
    for variant in done:
        if first is not None and variant.compared != (variant.job, first.job):
            _compare(page, first, variant)


def _output(page: TunePage, variant: Variant) -> Path | None:
    job = page.model.jobs.get(variant.job) if variant.job is not None else None
    return Path(job.output) if job is not None and job.state == "done" and job.output else None


def _compare(page: TunePage, first: Variant, variant: Variant) -> None:
    """On a thread: a frame of the video, and its likeness to the first variant's."""
    one, other = _output(page, first), _output(page, variant)
    if one is None or other is None or first.job is None or variant.job is None:
        return
    seeds = {v.tried.get("base_seed") for v in (first, variant)}
    about = variant.compared = variant.job, first.job
    alone = variant is first
    variant.psnr = None
    variant.psnr_said = t("the reference") if alone else t("is being reckoned")
    if len(seeds) > 1:
        variant.psnr_said = t("the seeds differ")

    def look() -> tuple[str, Variant, tuple[int, int], Any]:
        from engine.media.compare import CompareError, likeness, middle_frame

        try:
            frame = middle_frame(other, _WIDE)
            found = None if alone or len(seeds) > 1 else likeness(one, other)
        except CompareError as error:
            return "likeness", variant, about, (None, None, str(error))
        return "likeness", variant, about, (frame, found, "")

    page.run_worker(
        look, thread=True, exit_on_error=False, group=f"likeness {variant.job}", name="likeness"
    )


def compared(variant: Variant, about: tuple[int, int], result: Any) -> None:
    """Take over what the thread found, if neither of both was tried again meanwhile."""
    if variant.compared != about:
        return
    frame, found, problem = result
    if frame is not None:
        variant.frame = Preview(about[0], 0, 0, *frame)
    if found is not None:
        variant.psnr, variant.psnr_said = (
            found.psnr,
            n("{count} frame", "{count} frames", found.frames),
        )
    elif problem:
        variant.psnr_said = problem
