"""What a release must hold to and how it is rolled out, out of TOML."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

import platformdirs

from engine.parameters.request import DEFAULTS
from engine.release.model import PLACING, ReleaseError
from engine.sentence import sentence

Running = Literal["finish", "pause", "requeue"]
_RUNNING: Final = ("finish", "pause", "requeue")
_MODES: Final = ("auto", "gate", "observe")


@dataclass(frozen=True)
class Stage:
    """One step of a rollout: paired runs, or a share of new jobs."""

    name: str
    paired: bool = False
    placement: dict[str, Any] = field(default_factory=dict)
    share: float = 0.0
    jobs: int = 20
    minutes: float = 1440.0
    extend: int = 2

    @property
    def devices(self) -> int:
        """Devices that its paired runs use at least."""
        return int(self.placement.get("num_gpus_dit") or 1)


@dataclass(frozen=True)
class Settings:
    """Limits by gate, sizes, policies, stages. Shares are fractions, sizes "W*H"."""

    allowed: dict[str, float]  # gate → share; "error_rate" is ``paired`` and ``live``
    psnr_cap: float
    modes: dict[str, str]  # of psnr and ssim
    error_paired: float
    error_live: float
    inputs: int
    files: tuple[dict[str, str], ...]
    clips: int
    size: str
    communication_pairs: int
    ready_seconds: float
    validate_clips: int
    validate_size: str
    high_size: str
    high_seconds: float
    live_jobs: int
    running: Running
    hard: Running
    watch_minutes: float
    stages: tuple[Stage, ...]


def settings_file(env: Mapping[str, str] | None = None) -> Path:
    """``AVATOP_RELEASES_FILE``, else ``releases.toml`` in avatop's XDG configuration folder."""
    env = os.environ if env is None else env
    named = env.get("AVATOP_RELEASES_FILE")
    if named:
        return Path(named).expanduser().absolute()
    return platformdirs.user_config_path("avatop") / "releases.toml"


def load(path: Path | None = None) -> Settings:
    """The settings in force: the defaults, with the user's file on top.

    Raises:
        ReleaseError: the file cannot be read, or says something that cannot be.
    """
    return of(_defaults(), _read(path or settings_file()))


def shipped() -> Settings:
    """The settings that ship."""
    return of(_defaults(), {})


def _defaults() -> dict[str, Any]:
    text = (files("engine.release") / "defaults.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def of(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> Settings:
    """Settings out of tables; ``own`` wins, its stages replace all.

    Raises:
        ReleaseError: naming the first value that cannot be.
    """
    table = _merged("", defaults, own)
    gates, paired, checks = table["gates"], table["paired"], table["validate"]
    stages = tuple(_stage(entry) for entry in table["stage"])
    if not stages or stages[-1].paired or stages[-1].share != 1.0:
        raise ReleaseError(sentence("releases: the last [[stage]] takes all jobs (share = 1.0)"))
    if len({stage.name for stage in stages}) != len(stages):
        raise ReleaseError(sentence("releases: two stages have one name"))
    names = ("time_per_clip", "peak_memory", "communication", "psnr", "ssim")
    modes = {name: _choice(f"gates.{name}.mode", gates[name]["mode"], _MODES)
             for name in ("psnr", "ssim")}  # fmt: skip
    rollback = table["rollback"]
    return Settings(
        allowed={name: _share(f"gates.{name}.allowed", gates[name]["allowed"]) for name in names},
        psnr_cap=_above("gates.psnr.cap", gates["psnr"]["cap"]),
        modes=modes,
        error_paired=_share("gates.error_rate.paired", gates["error_rate"]["paired"]),
        error_live=_share("gates.error_rate.live", gates["error_rate"]["live"]),
        inputs=int(_above("paired.inputs", paired["inputs"])),
        files=tuple(_input(entry) for entry in paired["files"]),
        clips=max(2, int(_above("paired.clips", paired["clips"]))),
        size=str(paired["size"]),
        communication_pairs=int(_above("communication_pairs", paired["communication_pairs"])),
        ready_seconds=_above("validate.ready_seconds", checks["ready_seconds"]),
        validate_clips=int(_above("validate.clips", checks["clips"])),
        validate_size=str(checks["clips_size"]),
        high_size=str(checks["high_size"]),
        high_seconds=_above("validate.high_seconds", checks["high_seconds"]),
        live_jobs=int(_above("live.jobs", table["live"]["jobs"])),
        running=_choice("rollback.running", rollback["running"], _RUNNING),  # type: ignore[arg-type]
        hard=_choice("rollback.hard", rollback["hard"], _RUNNING),  # type: ignore[arg-type]
        watch_minutes=float(rollback["watch_minutes"]),
        stages=stages,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ReleaseError(f"{path}: {error}") from error


def _merged(where: str, below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(above) - set(below))
    if unknown:
        raise ReleaseError(
            sentence(
                "releases: {where}{unknown} is not known here", where=where, unknown=unknown[0]
            )
        )
    found = dict(below)
    for name, value in above.items():
        inner = below[name]
        if isinstance(inner, Mapping):
            if not isinstance(value, Mapping):
                raise ReleaseError(
                    sentence("releases: {where}{name} is a table", where=where, name=name)
                )
            found[name] = _merged(f"{where}{name}.", inner, value)
        else:
            found[name] = value
    return found


def _stage(entry: Any) -> Stage:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise ReleaseError(sentence("releases: every [[stage]] has a name"))
    name = entry["name"]
    unknown = sorted(set(entry) - set(Stage.__dataclass_fields__))
    if unknown:
        raise ReleaseError(
            sentence(
                "releases: stage {name}: {unknown} is not known here", name=name, unknown=unknown[0]
            )
        )
    placing = dict(entry.get("placement") or {})
    wrong = sorted(set(placing) - set(PLACING))
    if wrong:
        raise ReleaseError(
            sentence(
                "releases: stage {name}: {wrong} does not say where a job runs",
                name=name,
                wrong=wrong[0],
            )
        )
    paired = bool(entry.get("paired", False))
    return Stage(
        name=name,
        paired=paired,
        placement={key: placing.get(key, DEFAULTS[key]) for key in placing},
        share=0.0
        if paired
        else _share(sentence("stage {name}: share", name=name), entry.get("share")),
        jobs=int(_above(sentence("stage {name}: jobs", name=name), entry.get("jobs", 20))),
        minutes=_above(sentence("stage {name}: minutes", name=name), entry.get("minutes", 1440.0)),
        extend=int(entry.get("extend", 2)),
    )


def _input(entry: Any) -> dict[str, str]:
    if not isinstance(entry, Mapping) or not {"image", "audio"} <= set(entry):
        raise ReleaseError(sentence("releases: paired.files holds tables with image and audio"))
    return {key: str(value) for key, value in entry.items()}


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReleaseError(
            sentence("releases: {name} = {value!r} is no number", name=name, value=value)
        )
    return float(value)


def _share(name: str, value: Any) -> float:
    number = _number(name, value)
    if not 0 < number <= 1:
        raise ReleaseError(
            sentence(
                "releases: {name} = {value} lies above 0 and at most at 1", name=name, value=value
            )
        )
    return number


def _above(name: str, value: Any) -> float:
    number = _number(name, value)
    if number <= 0:
        raise ReleaseError(
            sentence("releases: {name} = {value} lies above 0", name=name, value=value)
        )
    return number


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ReleaseError(
            sentence(
                "releases: {name} = {value!r} is one of {choices}",
                name=name,
                value=value,
                choices=", ".join(choices),
            )
        )
    return str(value)
