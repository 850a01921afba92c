"""What a release is made of, as it is here: files by hash, packages, driver, git, settings."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from engine.checkpoint import layout as layouts
from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.layout import Layout
from engine.release.model import ReleaseError, WeightFile
from engine.sentence import sentence

#: Files hashed side by side: one does not fill a fast disk.
_HASHERS: Final = 4
_GIT_SECONDS: Final = 20.0
_CONFIG_BYTES: Final = 1 << 20

#: (path, size, mtime in ns) → the hash that is known for it, if any.
Known = Callable[[str, int, int], str | None]


def model_files(model: Mapping[str, Any]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Every file of the model a release names: (weights and encoders, LoRA).

    Raises:
        ReleaseError: something that a job needs is missing.
    """
    lora = str(model.get("lora_path_dmd") or "") or None
    wanted = bool(model.get("load_lora"))
    try:
        found = layouts.find(
            str(model.get("ckpt_dir") or ""),
            t5_path=model.get("t5_path"),
            vae_path=model.get("vae_path"),
            wav2vec_path=model.get("wav2vec_path"),
            lora_path=lora if wanted else None,
        )
        found.require(*layouts.REQUIRED, *(("lora",) if wanted else ()))
    except CheckpointError as error:
        raise ReleaseError(str(error)) from error
    return _files(found), (found.lora,) if wanted and found.lora is not None else ()


def _files(layout: Layout) -> tuple[Path, ...]:
    single = [layout.config_file, layout.dit_index, layout.vae, layout.t5, *layout.dit_files]
    folders = [layout.tokenizer, layout.wav2vec]
    inside = [p for folder in folders if folder is not None for p in sorted(folder.iterdir())]
    return tuple(p for p in (*single, *inside) if p is not None and p.is_file())


def hashed(paths: Iterable[Path], known: Known) -> tuple[WeightFile, ...]:
    """Files with their SHA-256, several at a time; a file that has not changed is not read again.

    Raises:
        ReleaseError: one cannot be read.
    """

    def one(path: Path) -> WeightFile:
        try:
            stat = path.stat()
            sha = known(str(path), stat.st_size, stat.st_mtime_ns)
            if sha is None:
                with path.open("rb") as stream:
                    sha = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ReleaseError(f"{path}: {error.strerror or error}") from error
        return WeightFile(str(path), stat.st_size, stat.st_mtime_ns, sha)

    with ThreadPoolExecutor(_HASHERS) as pool:
        return tuple(pool.map(one, paths))


def environment(repository: Path | None = None) -> dict[str, Any]:
    """What the ranks run on: resolved packages, Python, driver, the repository's tag.

    Raises:
        ReleaseError: the repository is none.
    """
    packages = {
        str(d.metadata["Name"]).lower(): d.version
        for d in importlib.metadata.distributions()
        if d.metadata["Name"]
    }
    return {
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items())),
        "driver": driver(),
        "repository": None if repository is None else git_tag(repository),
    }


def driver() -> str | None:
    """The NVIDIA driver's version; None without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        said = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return said.decode() if isinstance(said, bytes) else str(said)


def git_tag(repository: Path) -> dict[str, str]:
    """Folder, tag (or commit) and whether files differ from it.

    Raises:
        ReleaseError: git does not know this folder.
    """
    command = ["git", "-C", str(repository), "describe", "--tags", "--always", "--dirty", "--long"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ReleaseError(
            sentence(
                "git cannot be asked about {repository}: {error}",
                repository=repository,
                error=error,
            )
        ) from error
    if done.returncode != 0:
        raise ReleaseError(f"{repository}: {done.stderr.strip() or 'git does not know it'}")
    return {"folder": str(repository), "tag": done.stdout.strip()}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of an environment is no longer as it was, a clause each."""
    found = [
        f"{name} {then.get(name) or 'none'} → {now.get(name) or 'none'}"
        for name in ("python", "driver")
        if then.get(name) != now.get(name)
    ]
    before, after = then.get("packages") or {}, now.get("packages") or {}
    found += [
        f"{name} {before.get(name, 'absent')} → {after.get(name, 'absent')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    if then.get("repository") != now.get("repository"):
        tags = [(side.get("repository") or {}).get("tag", "none") for side in (then, now)]
        found.append(f"repository {tags[0]} → {tags[1]}")
    return found


def environment_now(then: Mapping[str, Any]) -> dict[str, Any]:
    """The environment as it is, asked about the same repository as a snapshot was."""
    repository = (then.get("repository") or {}).get("folder")
    return environment(None if repository is None else Path(repository))


def configuration(paths: Iterable[Path]) -> dict[str, bytes]:
    """Configuration files' contents by absolute path.

    Raises:
        ReleaseError: one cannot be read, or is too large to be a configuration.
    """
    found: dict[str, bytes] = {}
    for path in paths:
        whole = Path(os.path.abspath(path))  # noqa: PTH100 - links stay: they are what is restored
        try:
            if whole.stat().st_size > _CONFIG_BYTES:
                raise ReleaseError(
                    sentence("{whole}: over 1 MiB, which is no configuration file", whole=whole)
                )
            found[str(whole)] = whole.read_bytes()
        except OSError as error:
            raise ReleaseError(f"{whole}: {error.strerror or error}") from error
    return found


def restore(contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """Write configuration files back, each whole or not at all; the paths that were different.

    What stood there is kept beside it as ``NAME.before-rollback``.

    Raises:
        OSError: one cannot be written.
    """
    changed = []
    for name, content in contents.items():
        path = Path(name)
        present = path.read_bytes() if path.exists() else None
        if present == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if present is not None:
            _write(path.with_name(f"{path.name}.before-rollback"), present)
        _write(path, content)
        changed.append(name)
    return tuple(changed)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    if path.exists():
        temporary.chmod(path.stat().st_mode)
    temporary.replace(path)
