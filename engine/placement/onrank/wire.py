"""Tensors from rank to rank: hidden states and latents, whichever executor walks.

Each message has a header, sent over a socket, and a body, which goes through a mailbox in pinned
host memory (``mailbox``). A receiver waits for the header on its host: as long as it takes, holding
nothing on the device, so an idle pipeline never times out and a busy one cannot wait in a circle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from engine.placement.onrank.groups import Groups
from engine.placement.onrank.mailbox import Address, Mailbox

_HEADER_TAG: Final = 1
_WORD_TAG: Final = 3
_MAX_DIMS: Final = 4
#: Words under way for each block and peer: one when it enters, one when it leaves, and as many
#: again before anybody waits.
_WORDS: Final = 4
#: Messages of one size to one peer that may be untaken, beyond one for every block under way: the
#: conditioning of two clips, and the reference.
_SPARE: Final = 4
#: Seconds until a sender gives up on a peer that takes nothing.
_FULL_SECONDS: Final = 1800.0


class WireError(RuntimeError):
    """A message was lost, or is not the one that was due."""

    kind = "comm"


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
        self._out: dict[tuple[int, int], Mailbox] = {}  # (to whom, bytes) → mailbox
        self._in: dict[tuple[int, Address], Mailbox] = {}
        self._headers: deque[tuple[Any, Tensor]] = deque()
        self._words: deque[tuple[Any, Tensor]] = deque()
        self._stream: torch.cuda.Stream | None = None
        self._sender: ThreadPoolExecutor | None = None  # headers, each after its body's copy
        self._emptier: ThreadPoolExecutor | None = None  # slots, each after its body was taken
        self._open: deque[Future[None]] = deque()
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._sender = ThreadPoolExecutor(1, thread_name_prefix="avatop-send")
            self._emptier = ThreadPoolExecutor(1, thread_name_prefix="avatop-take")

    def send(self, dst: int, label: Label, body: Tensor) -> None:
        """Send ``body`` to rank ``dst``. Returns at once; the body must not change afterwards.

        Raises:
            MailboxFullError: the peer takes nothing. WireError: an earlier header was not sent.
        """
        self._look_after()
        number = self._sent.get(dst, 0)
        self._sent[dst] = number + 1
        flat = body.to(self.device, self.dtype).contiguous().view(-1).view(torch.uint8)
        key = (dst, flat.numel())
        if key not in self._out:
            self._out[key] = Mailbox.make(flat.numel(), self._window + _SPARE, self.device)
        box = self._out[key]
        slot = box.take_slot(_FULL_SECONDS)
        shape = [*body.shape, *[0] * (_MAX_DIMS - body.dim())]
        header = torch.tensor(
            [number, *label, *shape, slot, *box.address.fields()], dtype=torch.int64
        )
        room = box.body(slot, flat.numel())
        if self._stream is None or self._sender is None:
            room.copy_(flat)
            self._send_header(dst, header)
            return
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            room.copy_(flat, non_blocking=True)
            flat.record_stream(self._stream)
            copied = self._stream.record_event()

        def follow() -> None:
            copied.synchronize()
            self._send_header(dst, header)

        self._open.append(self._sender.submit(follow))

    def receive(self, src: int, label: Label, shape: Sequence[int]) -> Tensor:
        """The message ``label`` from rank ``src``, on this rank's device.

        Raises:
            WireError: a message was lost, or is not of ``shape``.
            RuntimeError: the backend's, when the peer is gone.
        """
        while (src, label) not in self._kept:
            self._read(src)
        body = self._kept.pop((src, label))
        if tuple(body.shape) != tuple(shape):
            raise WireError(
                f"rank {self.groups.rank} expected {tuple(shape)} from rank {src} for {label}, "
                f"got {tuple(body.shape)}"
            )
        return body

    def _read(self, src: int) -> None:
        header = torch.zeros(1 + len(Label._fields) + _MAX_DIMS + 5, dtype=torch.int64)
        dist.recv(header, src, group=self.groups.notes, tag=_HEADER_TAG)
        number, kind, step, block, layer, *rest = header.tolist()
        dims, slot, address = rest[:_MAX_DIMS], rest[_MAX_DIMS], Address(*rest[_MAX_DIMS + 1 :])
        due = self._received.get(src, 0)
        self._received[src] = due + 1
        if number != due:
            raise WireError(
                f"rank {self.groups.rank} expected message {due} from rank {src}, got {number}"
            )
        if (src, address) not in self._in:
            self._in[src, address] = Mailbox.open(address, self.device)
        box = self._in[src, address]
        shape = torch.Size(d for d in dims if d)
        flat = torch.empty(
            shape.numel() * self.dtype.itemsize, dtype=torch.uint8, device=self.device
        )
        flat.copy_(box.body(slot, flat.numel()), non_blocking=True)
        if self._emptier is None:
            box.empty(slot)
        else:
            taken = torch.cuda.current_stream(self.device).record_event()
            self._open.append(self._emptier.submit(_after, taken, box.empty, slot))
        self._kept[src, Label(kind, step, block, layer)] = flat.view(self.dtype).view(shape)

    def _send_header(self, dst: int, header: Tensor) -> None:
        work = dist.isend(header, dst, group=self.groups.notes, tag=_HEADER_TAG)
        self._headers.append((work, header))

    def _look_after(self) -> None:
        """Raise what a thread met; forget headers so old that they were read."""
        while self._open and self._open[0].done():
            self._open.popleft().result()
        while len(self._headers) > (self._window + _SPARE) * 4 * (len(self.groups.walkers) + 1):
            self._headers.popleft()[0].wait()

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
        while self._open:
            self._open.popleft().result()
        for pool in (self._sender, self._emptier):
            if pool is not None:
                pool.shutdown()
        for queue in (self._headers, self._words):
            while queue:
                queue.popleft()[0].wait()
        for box in (*self._out.values(), *self._in.values()):
            box.close()
        self._out.clear()
        self._in.clear()


def _after(event: torch.cuda.Event, call: Callable[[int], None], slot: int) -> None:
    event.synchronize()
    call(slot)
