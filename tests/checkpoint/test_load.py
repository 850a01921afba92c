"""Do weights arrive on the device whole, aligned, with the LoRA in them, at a peak of one block?"""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.expected import unit_params
from engine.checkpoint.header import TensorInfo
from engine.checkpoint.layout import find
from engine.checkpoint.lora import read_lora
from engine.checkpoint.onrank import files
from engine.checkpoint.onrank.encoders import load_vae
from engine.checkpoint.onrank.files import TensorReader, state_dict
from engine.checkpoint.onrank.fp8cache import FOLDER
from engine.checkpoint.onrank.load import DiTSource, load_dit
from engine.checkpoint.onrank.slab import ALIGNMENT, allocate
from engine.model import lora as merging
from engine.model.config import Numerics
from engine.model.dit import DiT


def stored(root: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for path in find(root).dit_files:
        tensors |= load_file(path)
    return tensors


def merged(root: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    pairs = load_file(root / "liveavatar.safetensors")
    index = merging.index(pairs)
    rank = next(tensor.shape[0] for name, tensor in pairs.items() if ".lora_A." in name)
    return {
        name: merging.apply(name, tensor.to(dtype), index, pairs.__getitem__, rank / 2)
        for name, tensor in stored(root).items()
    }


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float32])
def test_the_weights_are_those_of_the_files(sample: Path, dtype: torch.dtype | None) -> None:
    dit = load_dit(find(sample).paths(), "cpu", dtype=dtype)
    wanted = stored(sample)
    found = dict(dit.named_parameters())
    assert set(found) == set(wanted)
    for name, parameter in found.items():
        assert parameter.dtype == (dtype or torch.bfloat16)
        assert torch.equal(parameter, wanted[name].to(parameter.dtype)), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_lora_is_merged_bit_for_bit_as_the_mathematics_says(
    sample: Path, dtype: torch.dtype
) -> None:
    paths = find(sample).paths()
    dit = load_dit(paths, "cpu", dtype=dtype, lora=paths["lora"])
    wanted = merged(sample, dtype)
    for name, parameter in dit.named_parameters():
        assert torch.equal(parameter, wanted[name]), name
    plain = stored(sample)["blocks.3.ffn.0.weight"].to(dtype)
    assert not torch.equal(dit.blocks[3].ffn[0].weight, plain)


def test_a_prefixed_lora_and_whole_replacements_are_understood(
    sample: Path, tmp_path: Path
) -> None:
    pairs = load_file(sample / "liveavatar.safetensors")
    chosen = {f"base_model.model.{n}": t for n, t in pairs.items() if n.startswith("blocks.0.")}
    chosen["head.head.bias"] = torch.full((64,), 0.5, dtype=torch.bfloat16)
    path = tmp_path / "l.safetensors"
    save_file(chosen, path, metadata={"lora_alpha": "4"})
    with DiTSource(find(sample).paths(), lora=path) as source:
        dit = source.build()
        source.fill(dit, "cpu")
        assert source.lora is not None
        assert (source.lora.rank, source.lora.alpha) == (4, 4.0)
        assert source.lora.replaced == ("head.head.bias",)
    assert torch.equal(dit.head.head.bias, chosen["head.head.bias"])
    assert torch.equal(dit.blocks[1].ffn[0].weight, stored(sample)["blocks.1.ffn.0.weight"])


def test_a_lora_for_another_model_names_what_does_not_match(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "l.safetensors"
    save_file({"blocks.70.ffn.0.lora_A.default.weight": torch.zeros(4, 128)}, path)
    with pytest.raises(CheckpointError, match=r"blocks\.70\.ffn\.0"):
        DiTSource(find(sample).paths(), lora=path)


def test_half_a_pair_is_refused(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "l.safetensors"
    save_file({"blocks.0.ffn.0.lora_A.default.weight": torch.zeros(4, 128)}, path)
    shapes = {name: info.shape for name, info in find(sample).dit_header().items()}
    with pytest.raises(CheckpointError, match="lora_B is missing"):
        read_lora(path, shapes)


def test_every_parameter_starts_on_256_bytes(sample: Path) -> None:
    paths = find(sample).paths()
    for model in (load_dit(paths, "cpu"), load_vae(paths, "cpu")):
        assert {tensor.data_ptr() % ALIGNMENT for tensor in model.parameters()} == {0}


def test_a_block_is_one_slab(sample: Path) -> None:
    dit = load_dit(find(sample).paths(), "cpu")
    slabs = [{p.untyped_storage().data_ptr() for p in block.parameters()} for block in dit.blocks]
    assert all(len(pointers) == 1 for pointers in slabs)
    assert len(set.union(*slabs)) == len(slabs)


class Meter:
    """Counts the bytes of slabs that are alive."""

    def __init__(self) -> None:
        self.alive = self.peak = 0

    def __call__(self, size: int, device: torch.device) -> Tensor:
        slab = allocate(size, device)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(slab.untyped_storage(), self._gone, size)
        return slab

    def _gone(self, size: int) -> None:
        self.alive -= size


def test_units_come_one_by_one_and_may_go_again(sample: Path) -> None:
    """A unit may be filled, cut up, and its slab given back before the next."""
    meter = Meter()
    largest = 0
    with DiTSource(find(sample).paths(), allocator=meter) as source:
        dit = source.build()
        units = source.units(dit)
        assert [name for name, _ in units][-1] == "root"
        total = 0
        for _, modules in units:
            filled = source.fill(modules, "cpu")
            total, largest = total + filled, max(largest, filled)
            for module in modules:
                for parameter in module.parameters():
                    parameter.data = parameter.data[:1].clone()  # a rank's own slice
    assert total == sum(info.bytes for info in find(sample).dit_header().values())
    assert meter.peak < largest * 1.05


def shares(dit: DiT, rank: int, ranks: int) -> dict[str, Tensor]:
    """Room for a rank's rows of every parameter."""
    rows = {name: torch.tensor_split(p, _ends(len(p), ranks)) for name, p in dit.named_parameters()}
    return {name: torch.empty_like(parts[rank], device="cpu") for name, parts in rows.items()}


def _ends(size: int, ranks: int) -> list[int]:
    chunk = -(-size // ranks)
    return [min(size, n * chunk) for n in range(1, ranks)]


@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("cache", [False, True])
def test_do_shares_make_the_whole_and_read_no_more(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fp8: bool, cache: bool
) -> None:
    """The LoRA merged and quantised as in the whole, bit by bit; each byte is read once."""
    root = Path(shutil.copytree(sample, tmp_path / "ckpt"))
    paths = find(root).paths()
    ranks, read = 3, []
    within = TensorReader._read

    def counted(self: TensorReader, info: TensorInfo, begin: int, target: Tensor) -> None:
        read.append(target.nbytes if "diffusion" in info.file else 0)
        within(self, info, begin, target)

    def source() -> DiTSource:
        return DiTSource(paths, dtype=torch.bfloat16, lora=paths["lora"], fp8_cache=cache)

    numerics = Numerics(compute=torch.bfloat16, fp8=fp8)
    with source() as one:
        whole = one.build(numerics)
        one.fill(whole, "cpu")
    if cache:
        shutil.rmtree(root / FOLDER, ignore_errors=True)  # the first of the ranks makes it anew
    monkeypatch.setattr(TensorReader, "_read", counted)
    parts: list[dict[str, Tensor]] = []
    for rank in range(ranks):
        with source() as one:
            parts.append(shares(one.build(numerics), rank, ranks))
            one.fill_share(parts[rank], rank, ranks)
    for name, parameter in whole.named_parameters():
        made = torch.cat([part[name] for part in parts])
        assert torch.equal(made.view(torch.uint8), parameter.view(torch.uint8)), name
    size = sum(info.bytes for info in find(root).dit_header().values())
    assert sum(read) == size or (cache and fp8 and sum(read) <= 2 * size)


PEAK = """
import json, sys
import torch
from engine.checkpoint.expected import unit_params
from engine.checkpoint.header import TensorInfo
from engine.checkpoint.layout import find
from engine.checkpoint.onrank.load import load_dit
torch.set_num_threads(1)
def high():
    rows = open("/proc/self/status").read().splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("VmHWM"))
paths = find(sys.argv[1]).paths()
load_dit(find(sys.argv[2]).paths(), "cpu", dtype=torch.float32, lora=find(sys.argv[2]).lora)
try:
    open("/proc/self/clear_refs", "w").write("5")  # not every kernel has it
except OSError:
    pass
before = high()
dit = load_dit(paths, "cpu", dtype=torch.float32, lora=paths["lora"])
final = sum(p.nbytes for p in dit.parameters())
print(json.dumps([high() - before, final]))
"""

WIDE = {
    "dim": 640, "num_heads": 8, "num_layers": 8, "ffn_dim": 2560, "audio_inject_layers": [0, 4],
    "audio_dim": 32, "text_dim": 32, "text_len": 8, "freq_dim": 32,
}  # fmt: skip


def wide(root: Path) -> Path:
    """A DiT whose blocks are large enough to be seen in a process's memory."""
    from engine.checkpoint.expected import dit_tensors, lora_tensors

    root.mkdir()
    (root / "config.json").write_text(json.dumps(WIDE))
    for name, table in (
        ("diffusion_pytorch_model", dit_tensors(WIDE)),
        ("liveavatar", lora_tensors(WIDE, 8)),
    ):
        save_file(
            {key: torch.zeros(shape, dtype=torch.bfloat16) for key, shape in table.items()},
            root / f"{name}.safetensors",
        )
    return root


def test_the_peak_over_the_final_size_is_at_most_one_block(sample: Path, tmp_path: Path) -> None:
    """Measured from outside: the high-water mark of a process that loads, converts and merges."""
    import os
    import subprocess
    import sys

    root = wide(tmp_path / "wide")
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(root), str(sample)],
        capture_output=True,
        text=True,
        timeout=90,
        # A fixed threshold: what is freed goes back at once, so that tensors are measured and
        # not the heap's holes.
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    assert done.returncode == 0, done.stderr
    rise, final = json.loads(done.stdout)
    assert rise - final <= unit_params(WIDE)["layer 0"] * 4


def test_progress_ends_at_the_whole(sample: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    load_dit(find(sample).paths(), "cpu", on_unit=lambda *row: seen.append(row))
    assert seen[0][0] == "layer 0"
    assert seen[-1][1] == seen[-1][2] == 2 * 2_869_433


def test_a_shape_that_differs_is_refused_before_memory_is_taken(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"ffn_dim": 512}))
    meter = Meter()
    with pytest.raises(CheckpointError, match=r"blocks\.0\.ffn\.0\.weight"):
        load_dit(find(copy).paths(), "cpu", allocator=meter)
    assert meter.peak == 0


def test_the_vae_arrives_as_stored(sample: Path) -> None:
    paths = find(sample).paths()
    vae, wanted = load_vae(paths, "cpu"), state_dict(paths["vae"])
    found = dict(vae.named_parameters())
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_file_cut_off_between_check_and_read_is_told(copy: Path) -> None:
    path = copy / "diffusion_pytorch_model-00002-of-00002.safetensors"
    with DiTSource(find(copy).paths()) as source:
        dit = source.build()
        raw = path.read_bytes()
        path.write_bytes(raw[: 8 + struct.unpack("<Q", raw[:8])[0] + 100])
        with pytest.raises(CheckpointError, match="truncated"):
            source.fill(dit, "cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_pieces_read_ahead_by_threads_make_the_same_tensors(
    sample: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PIECE", 1000)  # many pieces to a tensor, the last one short
    layout = find(sample)
    wanted = stored(sample)
    with TensorReader(layout.dit_header(), ahead=("cpu",)) as reader:
        targets = {name: torch.empty(t.shape, dtype=dtype) for name, t in wanted.items()}
        arrived = [name for name, _ in reader.each(targets.items())]
    assert arrived == list(targets)
    for name, target in targets.items():
        assert torch.equal(target, wanted[name].to(dtype)), name


def test_a_file_cut_short_while_it_is_read_ahead_is_told(sample: Path, tmp_path: Path) -> None:
    header = find(sample).dit_header()
    name = next(name for name, info in header.items() if info.bytes > 1000)
    short = tmp_path / "short.safetensors"
    short.write_bytes(Path(header[name].file).read_bytes()[: header[name].offset + 10])
    info = dataclasses.replace(header[name], file=str(short))
    with (
        TensorReader({name: info}, ahead=("cpu",)) as reader,
        pytest.raises(CheckpointError, match="truncated"),
    ):
        reader.read(name)
