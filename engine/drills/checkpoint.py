"""A checkpoint with one bit flipped, in a copy that shares every other file."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

from engine.checkpoint import layout as layouts
from engine.drills.compare import judge
from engine.drills.report import DrillError, DrillReport
from engine.drills.stage import Stage
from engine.messages import JobChanged, RankChanged, Submit
from engine.sentence import sentence


def corrupt_ckpt(stage: Stage, report: DrillReport) -> None:
    """A bit in a shard's header, then one in the VAE's pickle: both refused before a rank is."""
    before = stage.undisturbed()
    request = stage.request
    found = layouts.find(Path(str(request.ckpt_dir)), vae_path=request.vae_path)
    if not found.dit_files or found.vae is None:
        raise DrillError(sentence("the checkpoint has no shard, or no VAE"))
    copy = stage.places.state.parent / "ckpt"
    shard = min(found.dit_files, key=lambda path: path.stat().st_size)
    _share(found.root, copy, {shard})
    vae = copy / "drill-vae.pth"
    vae.write_bytes(found.vae.read_bytes())
    damaged = request.replace(ckpt_dir=str(copy), vae_path=str(vae))
    mark = stage.mark()
    fault = time.monotonic()
    for path, byte in ((copy / shard.name, 8), (vae, _pickle(vae))):
        flip(path, byte)
        reply = stage.ask(Submit(request=damaged.to_dict()))
        flip(path, byte)
        if reply.ok:
            report.recovered = False
            report.lost.append(
                sentence("the guard: a flipped bit in {name} was not noticed", name=path.name)
            )
            return
        report.notes.append(sentence("refused: {message}", message=reply.message))
    begun = stage.find(lambda e: isinstance(e, JobChanged | RankChanged), mark)
    if begun is not None:
        report.lost.append(sentence("the guard: a job was begun"))
    after = stage.end(stage.submit(damaged))
    judge(report, before, after)
    report.recovery_seconds = stage.next_block(after.row.id, fault, attempt=False)
    report.notes.append(
        sentence(
            "bits inside a tensor's data change no header: `avatop ckpt verify` and a "
            "release's digests find those"
        )
    )


def flip(path: Path, byte: int) -> None:
    """Flip the lowest bit of one byte; a second time puts it back."""
    with path.open("r+b") as file:
        file.seek(byte)
        value = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([value ^ 1]))


def _share(source: Path, target: Path, apart: set[Path]) -> None:
    """``source`` with every file linked, but those of ``apart`` copied."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if path in apart:
            place.write_bytes(path.read_bytes())
        else:
            place.symlink_to(path.resolve())


def _pickle(path: Path) -> int:
    """Where the second byte of the pickle in a ``.pth`` lies: its protocol."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        info = next(i for i in archive.infolist() if i.filename.endswith("data.pkl"))
        file.seek(info.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        return info.header_offset + 30 + name + extra
