"""Latents between ranks: numbered messages, point to point, each with a time limit.

A message is a header (sequence number, step, block) and the latent's bytes in one uint8 tensor,
so that a lost, doubled or misrouted message is noticed and not computed with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from engine.placement.onrank.clock import over

_HEADER_BYTES: Final = 32
#: Headers on a GPU that may be unread.
_BEHIND: Final = 4


class HopError(RuntimeError):
    """A latent did not arrive, or another one than was due."""

    kind = "comm"


@dataclass(frozen=True)
class Transfer:
    """One latent at ``step`` of ``block`` from rank ``src`` to rank ``dst``."""

    step: int
    block: int
    src: int
    dst: int


class Hop:
    """Exchanges one tick's latents between ranks of ``group``.

    Args:
        shape, dtype: of every latent.
        group: None is the whole world. Its time limit bounds every exchange.
    """

    def __init__(
        self,
        rank: int,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        self.rank, self.shape, self.dtype, self.device = rank, tuple(shape), dtype, device
        self.group = group
        self._sent: dict[int, int] = {}
        self._received: dict[int, int] = {}
        self._unread: deque[tuple[Transfer, int, Tensor, torch.cuda.Event | None]] = deque()

    def exchange(
        self, transfers: Sequence[Transfer], latents: dict[tuple[int, int], Tensor]
    ) -> dict[tuple[int, int], Tensor]:
        """Send what is this rank's to send, receive what is its to receive.

        Args:
            transfers: all transfers of the tick, equal on every rank.
            latents: (step, block) → latent, of those this rank sends.

        Returns:
            (step, block) → latent, of those it received.

        On a GPU headers are read once they have arrived, at the latest in the next exchange but
        one, so that the host need not wait for the device.

        Raises:
            HopError: a message with another number, step or block, now or in an exchange before.
            RuntimeError: the backend's, when a time limit has passed.
        """
        ops: list[dist.P2POp] = []
        waiting: list[tuple[Transfer, Tensor]] = []
        for transfer in transfers:
            if transfer.src == transfer.dst:
                continue
            if transfer.src == self.rank:
                number = self._sent.get(transfer.dst, 0)
                self._sent[transfer.dst] = number + 1
                message = self._pack(number, transfer, latents[transfer.step, transfer.block])
                ops.append(dist.P2POp(dist.isend, message, transfer.dst, self.group))
            elif transfer.dst == self.rank:
                message = self._empty()
                ops.append(dist.P2POp(dist.irecv, message, transfer.src, self.group))
                waiting.append((transfer, message))
        if ops:
            for work in dist.batch_isend_irecv(ops):
                work.wait()
        found = {(t.step, t.block): self._unpack(t, message) for t, message in waiting}
        self._check(behind=_BEHIND)
        return found

    def settle(self) -> None:
        """Read every header that came.

        Raises:
            HopError: as of ``exchange``.
        """
        self._check(behind=0)

    def _empty(self) -> Tensor:
        size = _HEADER_BYTES + torch.Size(self.shape).numel() * self.dtype.itemsize
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def _pack(self, number: int, transfer: Transfer, latent: Tensor) -> Tensor:
        if tuple(latent.shape) != self.shape or latent.dtype != self.dtype:
            raise HopError(f"a latent {tuple(latent.shape)} {latent.dtype} cannot hop here")
        head = _header(number, transfer.step, transfer.block)
        if self.device.type == "cuda":
            head = head.pin_memory().to(self.device, non_blocking=True)
        return torch.cat([head, latent.contiguous().view(-1).view(torch.uint8)])

    def _unpack(self, due: Transfer, message: Tensor) -> Tensor:
        number = self._received.get(due.src, 0)
        self._received[due.src] = number + 1
        head, event = message[:_HEADER_BYTES], None
        if self.device.type == "cuda":
            host = torch.empty(_HEADER_BYTES, dtype=torch.uint8, pin_memory=True)
            host.copy_(head, non_blocking=True)
            head, event = host, torch.cuda.current_stream(self.device).record_event()
        self._unread.append((due, number, head, event))
        return self._latent(message)

    def _check(self, *, behind: int) -> None:
        """Read headers that have arrived; wait for all but the last ``behind``."""
        while self._unread:
            due, number, head, event = self._unread[0]
            if event is not None and not over(event):
                if len(self._unread) <= behind:
                    return
                event.synchronize()
            self._unread.popleft()
            found = _read_header(head)
            if found != (number, due.step, due.block):
                raise HopError(
                    f"rank {self.rank} expected message {number} with step {due.step} of block "
                    f"{due.block} from rank {due.src}, got message {found[0]} with step "
                    f"{found[1]} of block {found[2]}"
                )

    def _latent(self, message: Tensor) -> Tensor:
        # A copy of its own: latents start aligned wherever they come from.
        body = message[_HEADER_BYTES:].clone()
        return body.view(self.dtype).view(self.shape)


def _header(number: int, step: int, block: int) -> Tensor:
    return torch.tensor([number, step, block, 0], dtype=torch.int64).view(torch.uint8)


def _read_header(head: Tensor) -> tuple[int, int, int]:
    # Copied, so that it starts aligned for int64.
    number, step, block, _ = head.clone().view(torch.int64).tolist()
    return number, step, block
