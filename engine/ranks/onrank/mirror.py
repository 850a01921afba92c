"""What a rank keeps of its job outside itself, and how it goes on from there.

The DiT's part is ``engine.placement.onrank.state``'s; here is the VAE's, the beginning and the
end. Where nothing is mirrored while the job runs, the state is written once, when the job is
stopped to be continued.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from engine.model.generate import Generation
from engine.placement.cut import Cut, decoder_name, latents_name
from engine.placement.onrank.groups import Groups
from engine.placement.onrank.state import Keeper, Outlet, described, names, raw, take_up
from engine.placement.plan import Plan
from engine.placement.statefile import StateFile, StateFileError
from engine.ranks.onrank.latentlog import LatentLog
from engine.ranks.onrank.segments import QUEUE_BLOCKS
from engine.ranks.protocol import StateSpec

#: Seconds in which an order reaches every rank, once one of them obeys it.
ORDER_SECONDS: Final = 10.0


class Stopping(Protocol):
    """The order to stop (``engine.ranks.onrank.report.Control``)."""

    @property
    def stop_after_clip(self) -> Any: ...  # a threading.Event
    @property
    def leave_state(self) -> str | None: ...


def boundaries(per_clip: int) -> int:
    """Files that the decoder's memory takes turns in.

    The engine may not have committed a clip yet whose blocks wait for the encoder, nor the one
    before; one more is being written.
    """
    return 3 + QUEUE_BLOCKS // per_clip


class DecoderKeeper:
    """Keeps the decoder's memory at clip boundaries: after ``clip`` clips, from 1 on.

    Its files are over a gigabyte each at the 14B: on a GPU a thread makes and pins the next one
    ahead.

    Args:
        once: there is no next one.
    """

    def __init__(
        self, folder: Path, device: torch.device, per_clip: int, *, once: bool = False
    ) -> None:
        self._folder, self._turns = folder, boundaries(per_clip)
        self._files: dict[int, StateFile] = {}
        self._coming: dict[int, Future[StateFile]] = {}
        self._maker: ThreadPoolExecutor | None = None
        if device.type == "cuda" and not once:
            self._maker = ThreadPoolExecutor(1, thread_name_prefix="avatop-decoder")
        self._outlet = Outlet(device)

    def keep(self, clip: int, state: Sequence[Tensor]) -> None:
        """Keep the memory that the decoder has once ``clip`` clips are decoded.

        Raises:
            OSError: no room for it.
        """
        parts = {f"{n}": _flat(tensor) for n, tensor in enumerate(state) if tensor.numel()}
        entries = {name: described(tensor) for name, tensor in parts.items()}
        forms = json.dumps([[list(t.shape), list(t.stride())] for t in state])
        turn, following = clip % self._turns, (clip + 1) % self._turns
        if turn in self._coming:
            self._files[turn] = self._coming.pop(turn).result()
        elif turn not in self._files:
            self._files[turn] = self._made(turn, entries, forms)
        if self._maker is not None and following not in self._files:
            self._coming[following] = self._maker.submit(self._made, following, entries, forms)
        self._outlet.put(self._files[turn], 0, clip, parts)

    def _made(
        self, turn: int, entries: dict[str, tuple[str, tuple[int, ...], int]], forms: str
    ) -> StateFile:
        path = self._folder / decoder_name(turn)
        file = StateFile.create(path, 1, entries, {"forms": forms})
        self._outlet.prepare(file)
        return file

    def close(self) -> None:
        if self._maker is not None:
            self._maker.shutdown(cancel_futures=True)
        for coming in self._coming.values():
            if not coming.cancelled() and coming.exception() is None:
                coming.result().close()
        self._outlet.close()
        for file in self._files.values():
            file.close()


def decoder_state(folder: Path, clip: int, device: torch.device) -> list[Tensor] | None:
    """The decoder's memory after ``clip`` clips, or None where it was not kept."""
    for path in sorted(folder.glob("decoder.*")):
        try:
            with StateFile.open(path) as file:
                if file.tags != (clip,):
                    continue
                forms = json.loads(file.metadata["forms"])
                return [_read(file, n, *form).to(device) for n, form in enumerate(forms)]
        except (OSError, StateFileError, KeyError):
            continue
    return None


_DTYPES: Final = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def _read(file: StateFile, number: int, shape: list[int], stride: list[int]) -> Tensor:
    entry = file.entries.get(str(number))
    if entry is None:
        return torch.empty(0)
    flat = torch.empty(entry.shape[1:], dtype=_DTYPES[entry.dtype])
    file.read(str(number), 0, raw(flat))
    # Strides as they were: convolutions choose their kernel by them.
    return torch.as_strided(flat, shape, stride)


def _flat(tensor: Tensor) -> Tensor:
    """A tensor's numbers in the order in which they lie in memory."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).reshape(-1)


class Mirror:
    """One rank's way to keep and to take up state.

    Args:
        per_clip: blocks of a clip.
        latent: any latent between steps in host memory, for its shape and dtype.

    Raises:
        OSError: the log of latents cannot be opened.
    """

    def __init__(
        self, spec: StateSpec, plan: Plan, rank: int, log: Path, *, per_clip: int, latent: Tensor
    ) -> None:
        self.spec, self._plan, self._rank = spec, plan, rank
        self._per_clip, self._latent = per_clip, latent
        self.log = LatentLog(log, latent)
        if rank == plan.vae_rank and spec.cut is None:
            self.log.cut(self.first_block)  # what follows is made again
        self.keeper: Keeper | None = None
        self.decoder: DecoderKeeper | None = None
        self.remark: str | None = None  # why nothing is mirrored, where it should be

    @property
    def first_block(self) -> int:
        """Blocks of the video before the newest seam."""
        return self.spec.seam * self._per_clip

    def begin(self, generation: Generation, groups: Groups) -> None:
        """Take up what there is and mirror from here on. Every rank of the job calls this.

        Raises:
            OSError, StateFileError: the state to go on from is not there any more.
        """
        folder = None if self.spec.folder is None else Path(self.spec.folder)
        if folder is not None:
            try:
                self.keeper = Keeper(folder, self._plan, self._rank, generation, self._latent)
                if self._rank == self._plan.vae_rank:
                    self.decoder = DecoderKeeper(folder, generation.device, self._per_clip)
            except OSError as error:
                self.keeper = None
                self.remark = f"finished blocks are not mirrored: {error}"
        if self.spec.cut is not None and self.spec.source is not None:
            source, cut = Path(self.spec.source), Cut(self.spec.cut)
            first = self.known_final(self.first_block) if cut.finished else None
            take_up(source, cut, generation, first, self.keeper)
        groups.barrier()  # nobody overwrites what another still reads
        if folder is not None and self._rank == 0:
            expected = names(self._plan, boundaries(self._per_clip))
            for path in folder.glob("*.safetensors*"):
                if path.name not in expected:
                    path.unlink(missing_ok=True)

    def known_finals(self) -> Iterator[tuple[int, Tensor, bool]]:
        """Blocks of the whole video that were made before: their final latents, and whether
        those are in the log."""
        finished = 0 if self.spec.cut is None else self.spec.cut[-1]
        for block in range(self.first_block + finished):
            yield block, self.known_final(block), block < self.log.blocks

    def known_final(self, block: int) -> Tensor:
        """A final latent that was computed before, from the log or from what was mirrored."""
        if block < self.log.blocks or self.spec.source is None:
            return self.log.read(block)
        assert self.spec.cut is not None
        path = Path(self.spec.source) / latents_name(len(self.spec.cut))
        number = block - self.first_block
        with StateFile.open(path) as file:
            latent = torch.empty_like(self._latent)
            file.read("latent", number % file.slots, raw(latent))
            if not file.holds(number):
                raise StateFileError(f"{path} does not hold block {number} any more")
        return latent

    def decoder_state(self, device: torch.device) -> list[Tensor] | None:
        """The decoder's memory where decoding goes on, or None where it must be built again."""
        clip = self.spec.committed - self.spec.seam
        if self.spec.source is None or clip <= 0:
            return None
        return decoder_state(Path(self.spec.source), clip, device)

    @property
    def hold(self) -> Callable[[bool], None] | None:
        """Holds the mirror still, or lets it go on; None where nothing is mirrored."""
        return None if self.keeper is None else self.keeper.hold

    def decoded(self, clip: int, state: Sequence[Tensor]) -> None:
        """``clip`` clips of the whole video are decoded, and this is the decoder's memory."""
        if self.decoder is not None:
            self.decoder.keep(clip - self.spec.seam, state)

    def stopped(
        self,
        control: Stopping,
        generation: Generation,
        clips: int,
        decoded: Sequence[Tensor] | None,
    ) -> None:
        """The job was stopped at a clip's end: leave its state, if it is not mirrored anyway.

        Raises:
            OSError: no room for it.
        """
        # The first rank has heard the order, or there would be no end; it is on its way here.
        control.stop_after_clip.wait(ORDER_SECONDS)
        if self.keeper is None and control.leave_state is not None:
            self.leave(Path(control.leave_state), clips, generation, decoded)

    def leave(
        self, folder: Path, clips: int, generation: Generation, state: Sequence[Tensor] | None
    ) -> None:
        """Write the state once, after ``clips`` clips (of those counted here) were made.

        Raises:
            OSError: no room for it.
        """
        cut = Cut((clips * self._per_clip,) * generation.steps)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keeper = Keeper(folder, self._plan, self._rank, generation, self._latent)
        keeper.keep_all(cut)
        keeper.close()
        if state is not None:
            decoder = DecoderKeeper(folder, generation.device, self._per_clip, once=True)
            decoder.keep(clips, state)
            decoder.close()

    def close(self) -> None:
        """Until everything is written."""
        if self.keeper is not None:
            self.keeper.close()
        if self.decoder is not None:
            self.decoder.close()
        self.log.close()
