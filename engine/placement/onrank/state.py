"""A rank's part of a job's state: kept in files block by block, and taken up again from them.

Kept are a ring's newest rows and what each step has made; everything else is drawn or computed
again. Files are named by step and layers, not by rank: any plan can go on from any other's. A
ring of ``RING_BLOCKS`` blocks has one slot more in its file, so that a block being written
destroys none that is needed, and one more for each further rank that a step's layers lie on:
those run ahead of the last one.
"""

from __future__ import annotations

import mmap
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from engine.model.caches import RollingCache
from engine.model.generate import Generation
from engine.placement.cut import (
    RING_BLOCKS,
    Cut,
    decoder_name,
    latents_name,
    layers_in,
    needed,
    rings_name,
)
from engine.placement.onrank.executor import layers_of
from engine.placement.onrank.hostweights import HostMemory
from engine.placement.onrank.route import Route
from engine.placement.plan import Plan
from engine.placement.statefile import EMPTY, StateFile, StateFileError

#: Latents at one step that are kept: more than can be under way on as many ranks as there are.
LATENT_SLOTS: Final = 32
#: Writes of one file that may wait: a ring's row is overwritten ``RING_BLOCKS`` blocks later.
_WAITING: Final = RING_BLOCKS - 1
#: Bytes that are asked of the device at once: 5 ms of a link.
_AT_ONCE: Final = 256 << 20
#: Seconds that a rank at its end waits until the copy of its files is made.
RELEASE_SECONDS: Final = 60.0
#: Threads that have the kernel clear a file's pages.
_TOUCHING: Final = 8

_NAMES: Final = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
}


def ring_slots(route: Route, step: int) -> int:
    """Slots of a step's files of keys and values."""
    return RING_BLOCKS + len({route.parts[at].rank for at in route.of_step(step)})


def described(tensor: Tensor) -> tuple[str, tuple[int, ...], int]:
    """dtype, shape and bytes of a tensor, as ``StateFile.create`` takes a slot."""
    return _NAMES[tensor.dtype], tuple(tensor.shape), tensor.numel() * tensor.element_size()


def raw(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor in host memory, to read or to write."""
    flat = tensor.view(-1).view(torch.uint8) if tensor.dtype != torch.uint8 else tensor.view(-1)
    return memoryview(flat.numpy())  # type: ignore[arg-type]


class Outlet:
    """Writes tensors into slots of state files without making the device's work wait.

    On CUDA a thread copies into the files' memory, which is pinned, on a stream of its own, and
    tags each slot when its copy is done. What lies in host memory is written by that thread, or on
    a CPU rank at once.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.remark: str | None = None
        self._maps: dict[StateFile, HostMemory] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._stream: torch.cuda.Stream | None = None
        self._open: defaultdict[StateFile, deque[Future[None]]] = defaultdict(deque)
        if device.type == "cuda":
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="avatop-mirror")
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def put(self, file: StateFile, slot: int, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Let ``slot`` hold ``tensors`` under ``number``; they must not change for a while.

        Raises:
            OSError: what was put before could not be written.
        """
        if self._thread is None:
            self._write(file, slot, number, tensors)
            return
        waiting = self._open[file]
        while len(waiting) >= _WAITING or (waiting and waiting[0].done()):
            waiting.popleft().result()
        # What brings rows back to the host was handed to the device before this.
        ready = self._mark(torch.cuda.current_stream(self.device))
        waiting.append(self._thread.submit(self._copy, file, slot, number, ready, tensors))

    def prepare(self, *files: StateFile) -> None:
        """Pin files' memory ahead of the first block.

        Pinning takes every page, and the kernel clears those one after the other: 22 s for the
        14B. Reading them first from several threads spreads that.
        """
        if self._stream is None:
            return
        maps = [self._mapped(file) for file in files]
        with ThreadPoolExecutor(_TOUCHING, thread_name_prefix="avatop-touch") as pool:
            for memory in maps:
                for part in memory.bytes[:: mmap.PAGESIZE].chunk(_TOUCHING):
                    pool.submit(part.sum)
        for memory in maps:
            memory.pin(self.device)
            self.remark = self.remark or memory.unpinned_because

    def memory(self, file: StateFile) -> Tensor:
        """A file's bytes ``[n]`` as they lie in memory; pinned where they were prepared."""
        return self._mapped(file).bytes

    def settle(self) -> None:
        """Until everything is written."""
        for waiting in self._open.values():
            while waiting:
                waiting.popleft().result()

    def close(self) -> None:
        self.settle()
        if self._thread is not None:
            self._thread.shutdown()
        for memory in self._maps.values():
            memory.close(self.device)
        self._maps.clear()

    def _copy(
        self,
        file: StateFile,
        slot: int,
        number: int,
        ready: torch.cuda.Event,
        tensors: Mapping[str, Tensor],
    ) -> None:
        """On the thread: what lies on the device goes some layers at a time, for a latent or a
        picture on its way to the host waits until all that was asked for before is copied."""
        ready.synchronize()
        if not all(tensor.is_cuda for tensor in tensors.values()):
            self._write(file, slot, number, tensors)
            return
        assert self._stream is not None
        memory, asked = self._mapped(file), 0
        file.tag(slot, EMPTY)
        with torch.cuda.stream(self._stream):
            for name, tensor in tensors.items():
                offset, size = file.place(name, slot)
                flat = tensor.contiguous().view(-1).view(torch.uint8)
                memory.bytes[offset : offset + size].copy_(flat, non_blocking=True)
                asked += size
                if asked >= _AT_ONCE:
                    self._mark(self._stream).synchronize()
                    asked = 0
        self._mark(self._stream).synchronize()
        file.tag(slot, number)

    @staticmethod
    def _mark(stream: torch.cuda.Stream) -> torch.cuda.Event:
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(stream)
        return event

    def _mapped(self, file: StateFile) -> HostMemory:
        if file not in self._maps:
            self._maps[file] = HostMemory(_mapped(file))
        return self._maps[file]

    @staticmethod
    def _write(file: StateFile, slot: int, number: int, tensors: Mapping[str, Tensor]) -> None:
        file.tag(slot, EMPTY)
        for name, tensor in tensors.items():
            file.write(name, slot, raw(tensor.detach().contiguous()))
        file.tag(slot, number)


class Keeper:
    """Keeps what a rank computes, in ``folder``. Tell it of every block by ``done``.

    Args:
        latent: any tensor like a latent between steps, ``[16,3,h,w]``.

    Raises:
        OSError: no room for the files.
    """

    def __init__(
        self, folder: Path, plan: Plan, rank: int, generation: Generation, latent: Tensor
    ) -> None:
        self.outlet = Outlet(generation.device)
        self._lock = threading.Condition()
        self._held = False
        self._behind: dict[int, int] = {}  # step → its last block of which nothing was kept
        self._rings = generation.rings
        route = Route.of(plan)
        self._files: dict[int, StateFile] = {}
        self._latents: dict[int, StateFile] = {}
        for step, ring in self._rings.items():
            slots = ring_slots(route, step)
            rows = {name: described(part) for name, part in _block(ring, 0).items()}
            about = {"step": str(step), "layers": ",".join(map(str, ring.layers))}
            path = folder / rings_name(step, ring.layers, slots)
            self._files[step] = StateFile.create(path, slots, rows, about)
            if route.last(step).rank == rank:
                self._latents[step + 1] = StateFile.create(
                    folder / latents_name(step + 1),
                    LATENT_SLOTS,
                    {"latent": described(latent)},
                    {"step": str(step + 1)},
                )
        # Seconds for the 14B, and now nothing waits for it yet.
        self.outlet.prepare(*self._files.values(), *self._latents.values())

    def done(self, step: int, block: int, latent: Tensor | None) -> None:
        """As ``observe.Observer.done``."""
        with self._lock:
            if latent is not None and not self._held:
                self.keep_latent(step + 1, block, latent)
            if self._held:
                self._behind[step] = block
                return
            if self._behind.pop(step, None) is not None:
                for before in needed(block):
                    self.keep_rows(step, before)
            self.keep_rows(step, block)

    def hold(self, on: bool) -> None:
        """Let the files stay as they are, for a copy; then go on. Any thread."""
        with self._lock:
            self._held = on
            self.outlet.settle()
            self._lock.notify_all()

    def _catch_up(self) -> None:
        """What was computed while the files were held, of steps that no block followed on."""
        with self._lock:
            if not self._lock.wait_for(lambda: not self._held, RELEASE_SECONDS):
                return  # whoever copies them may still do so
            for step, last in self._behind.items():
                for block in needed(last + 1):
                    self.keep_rows(step, block)
            self._behind.clear()

    def keep_rows(self, step: int, block: int) -> None:
        """Keep a step's keys and values of a block."""
        file = self._files[step]
        self.outlet.put(file, block % file.slots, block, _block(self._rings[step], block))

    def keep_latent(self, step: int, block: int, latent: Tensor) -> None:
        """Keep a latent at ``step``, if this rank is who does."""
        file = self._latents.get(step)
        if file is not None:
            self.outlet.put(file, block % file.slots, block, {"latent": latent})

    def memory(self, path: Path) -> Tensor | None:
        """The bytes of the file of keys and values at ``path``, if it is this rank's."""
        own = (file for file in self._files.values() if file.path == path)
        return next((self.outlet.memory(file) for file in own), None)

    def holds_latent(self, step: int, block: int) -> bool:
        """Whether the file has it: other ranks may be reading it there, so it stays untouched."""
        file = self._latents.get(step)
        return file is not None and file.holds(block)

    def keep_all(self, cut: Cut) -> None:
        """Keep what a video needs that goes on from ``cut``, as far as it is not kept yet."""
        for step, file in self._files.items():
            for block in needed(cut.blocks[step]):
                if not file.holds(block):
                    self.keep_rows(step, block)

    def close(self) -> None:
        """Until all is written."""
        self._catch_up()
        self.outlet.close()
        for file in (*self._files.values(), *self._latents.values()):
            file.close()


def take_up(
    folder: Path, cut: Cut, generation: Generation, first: Tensor | None, keeper: Keeper | None
) -> None:
    """Put a generation where ``cut`` says, from the files of ``folder``.

    Args:
        first: the final latent of block 0, where it is finished.
        keeper: mirrors on from here; what it lacks of the state is written.

    Raises:
        StateFileError: the folder does not hold what it did when the cut was found.
    """
    for step, ring in generation.rings.items():
        _take_rows(folder, step, ring, needed(cut.blocks[step]), keeper)
    generation.go_on(cut.blocks, first)
    for block, step in generation.under_way().items():
        path = folder / latents_name(step)
        with StateFile.open(path) as file:
            if not file.holds(block):
                raise StateFileError(f"{path} does not hold block {block} any more")
            x = torch.empty(file.entries["latent"].shape[1:], dtype=generation.dtype)
            file.read("latent", block % file.slots, raw(x))
        if step in generation.local_steps:
            generation.receive(step, block, x.to(generation.device))
        if keeper is not None and not keeper.holds_latent(step, block):
            keeper.keep_latent(step, block, x.to(generation.device))
    if keeper is not None:
        keeper.keep_all(cut)
        keeper.outlet.settle()


def names(plan: Plan, boundaries: int) -> frozenset[str]:
    """Every file that ranks of ``plan`` keep; ``boundaries`` files are the decoder's."""
    route = Route.of(plan)
    found = {decoder_name(n) for n in range(boundaries)}
    for rank in range(plan.world_size):
        for step, layers in layers_of(plan, rank).items():
            found.add(rings_name(step, layers, ring_slots(route, step)))
    return frozenset(found | {latents_name(step + 1) for step in range(plan.sample_steps)})


def _take_rows(
    folder: Path, step: int, ring: RollingCache, blocks: range, keeper: Keeper | None
) -> None:
    due = {(layer, block) for layer in ring.layers for block in blocks}
    for path in sorted(folder.glob(f"kv.step{step}.*.safetensors")):
        with StateFile.open(path) as file:
            whole = {block for block in blocks if file.holds(block)}
            memory = None if keeper is None else keeper.memory(path)
            if memory is None:
                memory = _mapped(file, mmap.ACCESS_COPY)  # of a file that may be read alone
            for layer in layers_in(file):
                for block in sorted(whole):
                    if (layer, block) in due:
                        _read_rows(file, memory, ring, layer, block)
                        due.discard((layer, block))
    if due:
        layer, block = min(due)
        raise StateFileError(f"{folder} does not hold block {block} of layer {layer} any more")


def _read_rows(file: StateFile, memory: Tensor, ring: RollingCache, layer: int, block: int) -> None:
    for name, part in _layer_block(ring, layer, block):
        offset, size = file.place(name, block % file.slots)
        into = part.view(-1).view(torch.uint8)
        # Pinned memory is read later, and yet before the copies that overwrite the slot.
        into.copy_(memory[offset : offset + size], non_blocking=True)


def _mapped(file: StateFile, access: int = mmap.ACCESS_WRITE) -> Tensor:
    """A file's bytes ``[n]`` where they lie: read, they need not be copied to be copied."""
    return torch.frombuffer(
        mmap.mmap(file.descriptor, file.nbytes, access=access), dtype=torch.uint8
    )


def _block(ring: RollingCache, block: int) -> dict[str, Tensor]:
    """Views of a ring's rows of one block, by the names they have in a file."""
    return {name: part for layer in ring.layers for name, part in _layer_block(ring, layer, block)}


def _layer_block(ring: RollingCache, layer: int, block: int) -> Iterator[tuple[str, Tensor]]:
    size = ring.capacity // RING_BLOCKS
    at = slice(block % RING_BLOCKS * size, (block % RING_BLOCKS + 1) * size)
    for name, tensor in ring.kept(layer).items():
        yield f"{layer}.{name}", tensor[at]
