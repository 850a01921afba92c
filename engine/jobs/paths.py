"""Where jobs keep their files, by the XDG conventions.

``AVATOP_STATE_DIR`` and ``AVATOP_CACHE_DIR`` name other places (tests, several installations).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs


@dataclass(frozen=True)
class Places:
    """The folders of one user's avatop. Nothing is created until it is asked for."""

    state: Path
    cache: Path

    @staticmethod
    def of(env: Mapping[str, str] | None = None) -> Places:
        """The places that the environment names (the process's own by default)."""
        env = os.environ if env is None else env
        state, cache = env.get("AVATOP_STATE_DIR"), env.get("AVATOP_CACHE_DIR")
        return Places(
            Path(state).expanduser().absolute()
            if state
            else platformdirs.user_state_path("avatop"),
            Path(cache).expanduser().absolute()
            if cache
            else platformdirs.user_cache_path("avatop"),
        )

    @property
    def database(self) -> Path:
        return self.state / "jobs.sqlite3"

    @property
    def embeddings(self) -> Path:
        """Encoded prompts, voices and portraits by hash; may be deleted at any time."""
        return self.cache / "embeddings"

    @property
    def outputs(self) -> Path:
        """Where videos go when nobody says where."""
        return self.state / "outputs"

    @property
    def history(self) -> Path:
        """Predictions of plans, and what was measured after them."""
        return self.state / "placement-history.jsonl"

    @property
    def log(self) -> Path:
        """The engine's own log."""
        return self.state / "engine.log"

    @property
    def faults(self) -> Path:
        """Tracebacks of consoles that failed."""
        return self.state / "console-faults.log"

    @property
    def recordings(self) -> Path:
        """The flight recorder's segments."""
        return self.state / "recordings"

    @property
    def bookmarks(self) -> Path:
        """A person's bookmarks on log lines, for the consoles to come."""
        return self.state / "bookmarks.ndjson"

    @property
    def trouble(self) -> Path:
        """What was found wrong and what was done, for the engines to come."""
        return self.state / "trouble.ndjson"

    @property
    def incidents(self) -> Path:
        """What was kept of ranks that stood still, before they were ended."""
        return self.state / "incidents"

    def of_version(self, version: str | None) -> Places:
        """The places of one release's outputs and caches; without a version these."""
        if version is None:
            return self
        return Places(self.state / "releases" / version, self.cache / "releases" / version)

    def job(self, job: int) -> JobPlaces:
        return JobPlaces(self.state / "jobs" / f"{job:06d}")

    def output_of(self, job: int, audio: str, asked: str | None) -> Path:
        """The video's path: as asked, or inside the folder asked for, or among ``outputs``."""
        stem = Path(audio).stem or "video"
        if asked is None:
            return self.outputs / f"{stem}-job{job}.mp4"
        path = Path(asked)
        if asked.endswith("/") or path.is_dir():
            return path / f"{stem}.mp4"
        return path


@dataclass(frozen=True)
class JobPlaces:
    """The files of one job."""

    folder: Path

    @property
    def segments(self) -> Path:
        """Clips and their manifest, together so that either can be moved with the other."""
        return self.folder / "segments"

    @property
    def manifest(self) -> Path:
        return self.segments / "manifest.json"

    @property
    def log(self) -> Path:
        return self.folder / "job.log"

    def create(self) -> None:
        """Make the folders, readable by their owner only (prompts and faces are private)."""
        self.segments.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
