"""What is kept of a job outside its ranks: where it lies, what it is good for, when it goes.

While a job runs, its ranks mirror what they finish into a folder of shared memory that outlives
ranks, engine and console. When it is paused the folder moves to disk, into the job's own. No
torch here: what can be gone on from is read off tags (``engine.placement.cut``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.checkpoint.fingerprint import fingerprint
from engine.geometry import BLOCK_LATENTS, FrameGeometry, blocks_per_clip
from engine.jobs.manifest import ManifestError, read_manifest
from engine.jobs.paths import JobPlaces
from engine.media.segment import fsync_folder
from engine.placement.cut import Cut, find_cut, look
from engine.placement.plan import Plan
from engine.preflight import Prepared
from engine.sentence import sentence

#: Names another folder for mirrors, e.g. where ``/dev/shm`` is small.
ENVIRONMENT: Final = "AVATOP_MIRROR_DIR"
_SHARED_MEMORY: Final = Path("/dev/shm")
_PREFIX: Final = "avatop-mirror-"
_ABOUT: Final = "job.json"
_NOTES: Final = "state.json"
_LOG: Final = "latents.bin"
_LATENT_CHANNELS: Final = 16
_BYTES: Final = {"fp32": 4, "bf16": 2, "fp8": 2}

#: Fields of a request that say where a video is computed and what is told of it, not what it is.
_FREE: Final = frozenset(
    {
        "mode", "num_gpus_dit", "ulysses_size", "enable_vae_parallel", "offload_model",
        "single_gpu", "dit_fsdp", "gpus", "variant", "kv_home", "resident_layers", "host_memory",
        "gpu_memory_cap", "output", "dump_latents", "spike_threshold", "accept_low_quality",
        "retries", "allow_degrade", "enable_online_decode", "mirror", "fsdp_wrap", "prefetch",
    }
)  # fmt: skip


class StateError(RuntimeError):
    """A job cannot go on in the way asked for; says why."""


def essence(request: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request decides the video's bytes: the rest may change while it is made."""
    return {name: value for name, value in request.items() if name not in _FREE}


def mirror_root() -> Path:
    """The folder that mirrors lie in."""
    asked = os.environ.get(ENVIRONMENT)
    if not asked:
        return _SHARED_MEMORY
    root = Path(asked)
    with contextlib.suppress(OSError):  # said again, and told, when it is used
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return root


@dataclass(frozen=True)
class GoOn:
    """How a job begins: from nothing, from kept state, or again behind committed clips."""

    how: str  # "fresh" | "mirror" | "replay" | "seam"
    committed: int = 0  # clips
    seam: int = 0
    cut: Cut | None = None
    source: Path | None = None  # the folder with state; of a replay, the decoder's memory alone

    @property
    def sentence(self) -> str:
        """For the log."""
        kept = sentence("{committed} committed clips are kept", committed=self.committed)
        if self.committed == 1:
            kept = sentence("1 committed clip is kept")
        match self.how:
            case "mirror":
                assert self.cut is not None
                return sentence(
                    "goes on from kept state at block {entered}; {kept}",
                    entered=self.cut.entered,
                    kept=kept,
                )
            case "replay":
                return sentence(
                    "computed again from the start, bit by bit the same; {kept}", kept=kept
                )
            case "seam":
                return sentence(
                    "begins anew at clip {clip}: a seam will show there; {kept}",
                    clip=self.seam + 1,
                    kept=kept,
                )
            case _:
                return "begins"


class Kept:
    """The state of one job.

    Args:
        state: the state directory, which with the job's number names its mirror.
    """

    def __init__(self, state: Path, places: JobPlaces, job: int) -> None:
        key = hashlib.blake2b(os.fsencode(state.absolute()), digest_size=6).hexdigest()
        self._state, self._places, self._job = state, places, job
        self.mirror = mirror_root() / f"{_PREFIX}{key}-{job}"
        self.disk = places.folder / "state"

    # -- before a run --------------------------------------------------------------------------

    def choose(self, prepared: Prepared, how: str = "auto") -> GoOn:
        """How the job goes on. Blocks.

        Raises:
            StateError: not in the way asked for. OSError: the checkpoint cannot be read.
        """
        committed = self._committed()
        notes = self._notes()
        seam = int(notes.get("seam", 0))
        how = str(notes.get("how", "auto")) if how == "auto" else how
        if how == "seam" and committed:
            return GoOn("seam", committed, committed)
        begun_with = notes.get("weights")
        if begun_with is not None and begun_with != fingerprint(prepared.layout):
            return self._anew(committed)
        found: tuple[int, Path, Cut] | None = None
        problem: str = sentence("nothing was kept of it")
        for folder in (self.mirror, self.disk):
            about = _read(folder / _ABOUT)
            if not about:
                continue
            difference = _difference(about, _about(prepared))
            if difference is not None:
                problem = difference
                continue
            cut = self._cut(folder, about, seam)
            problem = sentence("what was kept of it is torn") if cut is None else problem
            if cut is not None and (found is None or sum(cut.blocks) > found[0]):
                found = sum(cut.blocks), folder, cut
        if found is not None and how in ("auto", "mirror"):
            return GoOn("mirror", committed, seam, found[2], found[1])
        if how == "mirror":
            raise StateError(
                sentence(
                    "job {job} cannot go on from kept state: {problem}",
                    job=self._job,
                    problem=problem,
                )
            )
        if not committed:
            return GoOn("fresh")
        if seam:  # what came before it was another beginning
            return GoOn("seam", committed, committed)
        return GoOn("replay", committed, source=self._decoder_folder(prepared))

    def _anew(self, committed: int) -> GoOn:
        """Other weights would go on with another video: that is never done unasked."""
        if not committed:
            return GoOn("fresh")
        raise StateError(
            sentence(
                "the checkpoint's files have changed since the first clip of job {job} was made: "
                "put them back, or resume with --how seam (it will show)",
                job=self._job,
            )
        )

    def begin(self, prepared: Prepared, going: GoOn) -> None:
        """Get ready to go on so: what is of no use any more is removed. Blocks.

        Raises:
            OSError: the checkpoint, or the job's folder, cannot be read or written.
        """
        self.note(seam=going.seam, how="auto", weights=fingerprint(prepared.layout))
        if going.how == "seam" or (going.cut is None and going.source is None):
            self._remove_folder(self.disk)
            self._remove_folder(self.mirror)

    def open_mirror(self, prepared: Prepared) -> Path:
        """The folder to mirror into. Blocks.

        Raises:
            OSError: it cannot be made.
        """
        self.mirror.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._describe(self.mirror, prepared)
        return self.mirror

    def leave_at(self, prepared: Prepared, size: int, *, on_disk: bool) -> Path:
        """The folder that ranks without a mirror leave ``size`` bytes of state in. Blocks.

        Raises:
            OSError: it cannot be made.
        """
        root = mirror_root()
        roomy = not on_disk and shutil.disk_usage(root).free > size
        folder = self.mirror if roomy else self.disk
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._describe(folder, prepared)
        return folder

    # -- at its end ----------------------------------------------------------------------------

    def resumable(self) -> str | None:
        """How an interrupted job could go on: "mirror", "replay", or None for from nothing."""
        seam = int(self._notes().get("seam", 0))
        for folder in (self.mirror, self.disk):
            about = _read(folder / _ABOUT)
            if about and self._cut(folder, about, seam) is not None:
                return "mirror"
        return "replay" if self._committed() else None

    def last_written(self) -> float | None:
        """When the mirror was last written to, wall clock."""
        times = [0.0]
        with contextlib.suppress(OSError):
            times += [path.stat().st_mtime for path in self.mirror.glob("*.safetensors")]
        return max(times) or None

    @property
    def worth(self) -> bool:
        """Whether anything is kept of the job."""
        return self.mirror.is_dir() or self._places.folder.is_dir()

    def to_disk(self) -> int:
        """Copy the mirror to disk, whole or not at all; bytes written. Blocks.

        Raises:
            OSError: no room.
        """
        if not self.mirror.is_dir():
            return 0
        temporary = self.disk.with_name(f"{self.disk.name}.part")
        self._remove_folder(temporary)
        temporary.mkdir(parents=True, mode=0o700)
        size = 0
        for path in sorted(self.mirror.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                target = temporary / path.name
                shutil.copyfile(path, target)
                target.chmod(0o600)
                _sync(target)
                size += target.stat().st_size
        if self._log.exists():
            _sync(self._log)
        self._remove_folder(self.disk)
        temporary.rename(self.disk)
        fsync_folder(self.disk.parent)
        return size

    def drop_mirror(self) -> None:
        """Give its memory back."""
        self._remove_folder(self.mirror)

    def drop_disk(self) -> None:
        """What is on disk is older than the mirror, which is whole again."""
        self._remove_folder(self.disk)

    def forget(self) -> None:
        """The job has ended for good."""
        self._remove_folder(self.mirror)
        self._remove_folder(self.disk)
        self._log.unlink(missing_ok=True)
        (self._places.folder / _NOTES).unlink(missing_ok=True)

    def note(self, **notes: Any) -> None:
        """Remember how the job goes on, over the engine's death."""
        self._places.create()
        path = self._places.folder / _NOTES
        temporary = path.with_name(f"{path.name}.part")
        temporary.write_text(json.dumps({**self._notes(), **notes}))
        temporary.replace(path)

    def take_note(self, name: str) -> Any:
        """What was noted under a name, once: it is forgotten."""
        notes = self._notes()
        value = notes.pop(name, None)
        if value is not None:
            self.note(**{name: None})
        return value

    # -- inside --------------------------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self._places.segments / _LOG

    def _notes(self) -> dict[str, Any]:
        return _read(self._places.folder / _NOTES)

    def _committed(self) -> int:
        try:
            return len(read_manifest(self._places.segments).whole())
        except ManifestError:
            return 0

    def _cut(self, folder: Path, about: Mapping[str, Any], seam: int) -> Cut | None:
        per_clip = int(about["per_clip"])
        before = seam * per_clip
        try:
            logged = self._log.stat().st_size // int(about["latent_bytes"])
        except OSError:
            logged = 0
        if logged < before:
            return None
        return find_cut(
            look(folder),
            steps=int(about["steps"]),
            layers=int(about["layers"]),
            per_clip=per_clip,
            blocks=int(about["blocks"]) - before,
            logged=logged - before,
        )

    def _decoder_folder(self, prepared: Prepared) -> Path | None:
        """Where the decoder's memory may lie, if it is of this very job."""
        about = _read(self.mirror / _ABOUT)
        return self.mirror if about and _difference(about, _about(prepared)) is None else None

    def _describe(self, folder: Path, prepared: Prepared) -> None:
        about = {"job": self._job, "state": str(self._state), **_about(prepared)}
        (folder / _ABOUT).write_text(json.dumps(about))

    @staticmethod
    def _remove_folder(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)


def mirrors(root: Path | None = None) -> Iterator[tuple[Path, Path, int]]:
    """Every mirror of this user's: its folder, the state directory and number of its job."""
    for folder in sorted((root or mirror_root()).glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid != os.getuid() or not folder.is_dir():
                continue
            about = _read(folder / _ABOUT)
            yield folder, Path(str(about.get("state", ""))), int(about.get("job", 0))


def _about(prepared: Prepared) -> dict[str, Any]:
    """What must be equal where state is taken up, and the numbers to read it by."""
    request, plan = prepared.request, prepared.plan
    frame = FrameGeometry(prepared.forecast.width, prepared.forecast.height)
    cells = frame.latent_width * frame.latent_height
    digest = hashlib.sha256(json.dumps(essence(request.to_dict()), sort_keys=True).encode())
    return {
        "request": digest.hexdigest(),
        "dtype": plan.dtype,
        "kv_dtype": plan.kv_dtype,
        "device": _hardware(plan),
        "steps": plan.sample_steps,
        "layers": max(stage.layers[1] for stage in plan.stages),
        "per_clip": blocks_per_clip(request.infer_frames),
        "blocks": prepared.blocks,
        "latent_bytes": _LATENT_CHANNELS * BLOCK_LATENTS * cells * _BYTES[plan.dtype],
    }


def _hardware(plan: Plan) -> str:
    first = plan.devices[0]
    return first.name or first.device.partition(":")[0]


def _difference(about: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Why state cannot be taken up, in words."""
    words = {
        "request": sentence("its request has changed in what decides the video"),
        "dtype": sentence("it was computed in another dtype"),
        "kv_dtype": sentence("its keys and values have another dtype"),
        "device": sentence("it was computed on another kind of device"),
    }
    for name, value in now.items():
        if about.get(name) != value:
            return words.get(name, sentence("it was made with other {name}", name=name))
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
