"""Tensors out of files: safetensors by position, ``.pth`` by torch with ``weights_only=True``."""

from __future__ import annotations

import os
import pickle
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import torch
from torch import Tensor

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.header import DOWNLOAD_AGAIN, TensorInfo, read_header
from engine.sentence import sentence

DTYPES: Final[dict[str, torch.dtype]] = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
}


#: Bytes that are read and copied to a GPU at once, and how many such pieces are under way.
PIECE: Final = 16 << 20
PIECES: Final = 10
#: Pieces beside those whose copies are not yet done.
SPARE: Final = 3
#: Threads that read: one alone cannot keep a GPU's link busy, even from the page cache.
READERS: Final = 8


@dataclass
class _Buffer:
    """Pinned memory ``[PIECE]``; ``copied`` when the GPU has taken what was last read into it."""

    bytes: Tensor
    copied: torch.cuda.Event | None = None


@dataclass
class _Piece:
    """A run of a tensor's bytes on its way to ``into`` on a GPU."""

    info: TensorInfo
    begin: int
    into: Tensor  # uint8
    buffer: _Buffer
    done: Future[None]
    last: Callable[[], tuple[str, Tensor]] | None  # ends the tensor, after its last piece


class TensorReader:
    """Reads tensors by their place in files.

    A tensor that the target can take as it is (host memory, same dtype) is read straight into it.
    What goes to a GPU is read by several threads into pinned pieces, ahead of the copies; so is
    what goes to any kind of device named in ``ahead``.
    """

    def __init__(
        self, tensors: Mapping[str, TensorInfo], ahead: Collection[str] = ("cuda",)
    ) -> None:
        self.tensors = tensors
        self._ahead = ahead
        self._open: dict[str, int] = {}
        self._staging: Tensor | None = None
        self._free: deque[_Buffer] = deque()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and let the buffers go."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        self._free.clear()
        self._staging = None

    def dtype(self, name: str) -> torch.dtype:
        info = self.tensors[name]
        if info.dtype not in DTYPES:
            raise CheckpointError(
                sentence("wrong dtype"),
                where=info.file,
                why=sentence("{dtype} cannot be computed with", dtype=info.dtype),
                tensor=name,
                remedy=sentence("take the bf16 weights of the model's source"),
            )
        return DTYPES[info.dtype]

    def into(self, name: str, target: Tensor) -> None:
        """Read tensor ``name`` into ``target`` (its shape), rounded once to its dtype."""
        for _ in self.each([(name, target)]):
            pass

    def each(
        self,
        wanted: Iterable[tuple[str, Tensor]],
        places: Mapping[str, TensorInfo] | None = None,
    ) -> Iterator[tuple[str, Tensor]]:
        """Read tensors into their targets, as ``into``, and hand each on once it is there.

        Later targets on a GPU are asked for and read while earlier ones are used. They are there
        for what is given to the current stream afterwards. ``places``: where to read from instead
        of ``tensors``, e.g. some of their rows.
        """
        places = self.tensors if places is None else places
        under_way: deque[_Piece] = deque()
        for name, target in wanted:
            if target.device.type not in self._ahead or not target.numel():
                while under_way:
                    yield from self._arrive(under_way)
                self._straight(places[name], self.dtype(name), target)
                yield name, target
                continue
            for piece in self._pieces(name, places[name], target):
                under_way.append(piece)
                if len(under_way) == PIECES:
                    yield from self._arrive(under_way)
        while under_way:
            yield from self._arrive(under_way)

    def read(self, name: str) -> Tensor:
        """Tensor ``name`` in host memory, in the file's dtype."""
        tensor = torch.empty(self.tensors[name].shape, dtype=self.dtype(name))
        self.into(name, tensor)
        return tensor

    def _straight(self, info: TensorInfo, dtype: torch.dtype, target: Tensor) -> None:
        if info.bytes == 0:
            return
        if target.dtype == dtype and target.is_contiguous():
            self._read(info, 0, target.view(-1).view(torch.uint8))
            return
        staging = self._stage(info.bytes)
        self._read(info, 0, staging)
        target.copy_(staging.view(dtype).view(target.shape))

    def _pieces(self, name: str, info: TensorInfo, target: Tensor) -> Iterator[_Piece]:
        """Begin to read a tensor for a GPU, piece by piece."""
        dtype = self.dtype(name)
        same = target.dtype == dtype and target.is_contiguous()
        whole = target if same else torch.empty_like(target, dtype=dtype).contiguous()

        def last() -> tuple[str, Tensor]:
            if not same:
                target.copy_(whole)
            return name, target

        flat = whole.view(-1).view(torch.uint8)
        if self._threads is None:
            self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="weights")
        self._descriptor(info)  # opened here, by one thread
        for begin in range(0, info.bytes, PIECE):
            into = flat[begin : begin + PIECE]
            # The longest unused one: its copy has had the most time to end.
            buffer = self._free.popleft() if len(self._free) > SPARE else _pinned()
            done = self._threads.submit(self._fetch, info, begin, buffer, len(into))
            ends = begin + PIECE >= info.bytes
            yield _Piece(info, begin, into, buffer, done, last if ends else None)

    def _fetch(self, info: TensorInfo, begin: int, buffer: _Buffer, size: int) -> None:
        if buffer.copied is not None:
            buffer.copied.synchronize()
        self._read(info, begin, buffer.bytes[:size])

    def _arrive(self, under_way: deque[_Piece]) -> Iterator[tuple[str, Tensor]]:
        """Give the oldest piece to the GPU; its tensor, if that was the last of it."""
        piece = under_way.popleft()
        piece.done.result()
        piece.into.copy_(piece.buffer.bytes[: len(piece.into)], non_blocking=True)
        if piece.into.is_cuda:
            piece.buffer.copied = torch.cuda.current_stream(piece.into.device).record_event()
        self._free.append(piece.buffer)
        if piece.last is not None:
            yield piece.last()

    def _stage(self, size: int) -> Tensor:
        if self._staging is None or self._staging.numel() < size:
            self._staging = None  # the old one goes before the new one comes
            self._staging = torch.empty(size, dtype=torch.uint8)
        return self._staging[:size]

    def _descriptor(self, info: TensorInfo) -> int:
        if info.file not in self._open:
            try:
                self._open[info.file] = os.open(info.file, os.O_RDONLY)
            except OSError as error:
                raise _unreadable(info, error) from error
        return self._open[info.file]

    def _read(self, info: TensorInfo, begin: int, target: Tensor) -> None:
        """Bytes of a tensor from ``begin`` on into ``target`` (uint8, host memory)."""
        view = target.numpy().data
        descriptor, at = self._descriptor(info), info.offset + begin
        try:
            while view:
                count = os.preadv(descriptor, [view[: 1 << 30]], at)
                if count == 0:
                    raise CheckpointError(
                        sentence("truncated file"), where=info.file, remedy=DOWNLOAD_AGAIN
                    )
                view, at = view[count:], at + count
        except OSError as error:
            raise _unreadable(info, error) from error


def _pinned() -> _Buffer:
    return _Buffer(torch.empty(PIECE, dtype=torch.uint8, pin_memory=torch.cuda.is_available()))


def _unreadable(info: TensorInfo, error: OSError) -> CheckpointError:
    return CheckpointError(
        sentence("cannot be read"),
        where=info.file,
        why=error.strerror or str(error),
        remedy=sentence("check the disk and the file's permissions"),
    )


def state_dict(path: Path | str) -> dict[str, Tensor]:
    """All tensors of a ``.pth``, ``.bin`` or ``.safetensors`` file, mapped rather than read.

    A pickle is loaded with ``weights_only=True`` and in no other way.

    Raises:
        CheckpointError: unreadable, damaged, or a pickle that wants to run code.
    """
    where = str(path)
    if Path(path).suffix == ".safetensors":
        from safetensors import safe_open

        read_header(path)  # our own bounded check first
        with safe_open(where, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            sentence("refused: it holds more than tensors"),
            where=where,
            why=str(error).splitlines()[0][:200],
            remedy=sentence("take the weights from a source you trust; this file could run code"),
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            sentence("cannot be loaded"),
            where=where,
            why=(str(error).splitlines() or [""])[0][:200],
            remedy=DOWNLOAD_AGAIN,
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise CheckpointError(
            sentence("no state dict"),
            where=where,
            remedy=sentence("name the file that holds the weights alone"),
        )
    return {str(name): tensor for name, tensor in loaded.items()}
