"""Tensors between ranks that do not walk in lock step.

Each message has a header, sent through host memory, and a body, sent the fastest way there is. A
receiver waits for the header in host memory: as long as it takes, holding no kernel on the device
and no communicator's clock, so an idle pipeline never times out. The body follows at once, within
its group's time limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from engine.placement.onrank.groups import Groups
from engine.placement.onrank.hop import HopError

_HEADER_TAG: Final = 1
_BODY_TAG: Final = 2
_WORD_TAG: Final = 3
_MAX_DIMS: Final = 4
#: Words under way for each block and peer: one when it enters, one when it leaves, and as many
#: again before anybody waits.
_WORDS: Final = 4


class Label(NamedTuple):
    """What a message holds: a name of its kind, and which step of which block before which layer.

    In a prefill's hidden states ``step`` is −1 and ``block`` the clip's first.
    """

    kind: int
    step: int
    block: int
    layer: int


HIDDEN: Final = 0
LATENT: Final = 1
REFERENCE: Final = 2
FINAL: Final = 3


@dataclass
class _Sent:
    """A message under way: its two handles with the memory that they read from."""

    label: Label
    until: int
    first: Any
    second: Any
    body: Tensor | None
    header: Tensor


class Wire:
    """One rank's end of all its connections.

    Messages from one rank to another arrive in the order in which they were sent, and are numbered
    so that a lost one is noticed; those that come before they are asked for are kept.

    Args:
        dtype: of every body.
        window: blocks under way at once: when a block enters, the one that entered ``window``
            blocks before has left, and every message about it was taken.
    """

    def __init__(
        self, groups: Groups, dtype: torch.dtype, device: torch.device, *, window: int
    ) -> None:
        self.groups, self.dtype, self.device = groups, dtype, device
        self._window = window
        self._sent: dict[int, int] = {}
        self._received: dict[int, int] = {}
        self._kept: dict[tuple[int, Label], Tensor] = {}
        self._under_way: list[_Sent] = []
        self._words: deque[tuple[Any, Tensor]] = deque()

    def send(self, dst: int, label: Label, body: Tensor, *, until: int | None = None) -> None:
        """Send ``body`` to rank ``dst``. Returns at once; the body must not change afterwards.

        ``until``: the block with which the message has been taken, if not the label's.
        """
        self._let_go(label)
        number = self._sent.get(dst, 0)
        self._sent[dst] = number + 1
        shape = [*body.shape, *[0] * (_MAX_DIMS - body.dim())]
        header = torch.tensor([number, *label, *shape], dtype=torch.int64)
        group, device = self._way(self.groups.rank, dst)
        flat = body.to(device, self.dtype).contiguous().view(-1).view(torch.uint8)
        # The body first: who has read the header need not wait for a sender that is yet to call.
        first = dist.isend(flat, dst, group=group, tag=self._tag(device))
        second = dist.isend(header, dst, group=self.groups.notes, tag=_HEADER_TAG)
        block = label.block if until is None else until
        self._under_way.append(_Sent(label, block, first, second, flat, header))

    def receive(self, src: int, label: Label, shape: Sequence[int]) -> Tensor:
        """The message ``label`` from rank ``src``, on this rank's device.

        Raises:
            HopError: a message was lost, or is not of ``shape``.
            RuntimeError: the backend's, when the peer is gone or a time limit has passed.
        """
        while (src, label) not in self._kept:
            self._read(src)
        body = self._kept.pop((src, label))
        if tuple(body.shape) != tuple(shape):
            raise HopError(
                f"rank {self.groups.rank} expected {tuple(shape)} from rank {src} for {label}, "
                f"got {tuple(body.shape)}"
            )
        return body

    def _read(self, src: int) -> None:
        header = torch.zeros(1 + len(Label._fields) + _MAX_DIMS, dtype=torch.int64)
        dist.recv(header, src, group=self.groups.notes, tag=_HEADER_TAG)
        number, kind, step, block, layer, *dims = header.tolist()
        due = self._received.get(src, 0)
        self._received[src] = due + 1
        if number != due:
            raise HopError(
                f"rank {self.groups.rank} expected message {due} from rank {src}, got {number}"
            )
        shape = torch.Size(d for d in dims if d)
        group, device = self._way(src, self.groups.rank)
        flat = torch.empty(shape.numel() * self.dtype.itemsize, dtype=torch.uint8, device=device)
        dist.recv(flat, src, group=group, tag=self._tag(device))
        body = flat.view(self.dtype).view(shape)
        self._kept[src, Label(kind, step, block, layer)] = body.to(self.device)

    # Words: small notes outside the numbering, from one rank to another in order.

    def tell(self, dst: int, word: int) -> None:
        """Send a number to rank ``dst``. Returns at once."""
        box = torch.tensor([word], dtype=torch.int64)
        self._words.append((dist.isend(box, dst, group=self.groups.notes, tag=_WORD_TAG), box))
        while len(self._words) > _WORDS * self._window * (len(self.groups.walkers) + 1):
            self._words.popleft()[0].wait()  # so old that it was heard

    def hear(self, src: int) -> int:
        """The next number from rank ``src``."""
        box = torch.zeros(1, dtype=torch.int64)
        dist.recv(box, src, group=self.groups.notes, tag=_WORD_TAG)
        return int(box.item())

    def close(self) -> None:
        """Wait until everything that was sent has arrived."""
        for sent in self._under_way:
            sent.first.wait()
            sent.second.wait()
        self._under_way.clear()
        while self._words:
            self._words.popleft()[0].wait()

    def _let_go(self, label: Label) -> None:
        """Forget messages that were taken, as ``label`` would not be sent otherwise.

        gloo says that a message was taken only when it is waited for, so it is waited for only
        then. NCCL says when a body is not read any more; that may be before its header is.
        """
        staying = []
        for sent in self._under_way:
            same = sent.label.block == sent.until == label.block and sent.label.step >= 0
            # A block is in one place at a time: what it brought there is used up.
            used = same and (sent.label.kind == HIDDEN or sent.label.step < label.step)
            if used or sent.until <= label.block - self._window:
                sent.first.wait()
                sent.second.wait()
                continue
            if sent.body is not None and sent.body.is_cuda and sent.first.is_completed():
                sent.body = None
            staying.append(sent)
        self._under_way = staying

    def _way(self, src: int, dst: int) -> tuple[dist.ProcessGroup | None, torch.device]:
        """The group and the memory that bodies from ``src`` to ``dst`` go through."""
        edge = self.groups.edges.get((src, dst))
        return (edge, self.device) if edge is not None else (self.groups.world, torch.device("cpu"))

    @staticmethod
    def _tag(device: torch.device) -> int:
        return _BODY_TAG if device.type == "cpu" else 0  # NCCL knows no tags
