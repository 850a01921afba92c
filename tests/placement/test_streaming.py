"""Do weights from the host stream once per walk, and do without pinning where they must?"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from engine.checkpoint.layout import find
from engine.checkpoint.onrank.load import DiTSource
from engine.model.config import Numerics
from engine.placement.onrank import hostweights
from engine.placement.onrank.groups import Groups
from engine.placement.onrank.hostkv import HostRings
from engine.placement.onrank.hostweights import HostMemory
from engine.placement.onrank.streamed import Streamed, stream
from engine.ranks.onrank.ledger import Ledger
from engine.ranks.onrank.probe import CpuProbe
from tests.placement.harness import CKPT

CPU = torch.device("cpu")
ALONE = Groups(0, (0,))


def streamed(layers: list[int], slots: int) -> tuple[Streamed, Ledger]:
    books = Ledger(CpuProbe())
    with DiTSource(find(CKPT).paths()) as source:
        dit = source.build(Numerics())
        network, _ = stream(
            dit,
            source,
            ALONE,
            CPU,
            books,
            layers=layers,
            everyones=layers,
            slots=slots,
            pinned=True,
        )
        for n in set(range(8)) - set(layers):
            source.fill(dit.blocks[n], CPU)
        source.fill(dit, CPU)
    return network, books


@pytest.mark.parametrize(("layers", "slots"), [(range(8), 2), (range(3, 8), 1), (range(8), 3)])
def test_a_walk_copies_every_streamed_unit_once(layers: range, slots: int) -> None:
    network, books = streamed(list(layers), slots)
    sizes = [unit.bytes for unit in network.units]
    assert books.held("streamed") == slots * max(sizes)
    with torch.no_grad():
        network([])
        first = network.copied_bytes
        network([])
    assert network.copied_bytes - first == sum(sizes)
    ahead = sizes[: max(1, slots - 1)]  # of the next walk
    assert first == sum(sizes) + sum(ahead)


def test_slots_for_all_layers_copy_nothing_twice() -> None:
    network, _ = streamed([5, 6, 7], 4)
    with torch.no_grad():
        for _ in range(3):
            network([])
    assert network.copied_bytes == sum(unit.bytes for unit in network.units)


def test_what_streams_is_what_the_files_hold() -> None:
    network, _ = streamed(list(range(8)), 2)
    with DiTSource(find(CKPT).paths()) as source:
        whole = source.build(Numerics())
        source.fill(whole, CPU)
    for n in range(8):
        network.run_layer(n, [])
        for name, wanted in whole.blocks[n].named_parameters():
            found = network.dit.blocks[n].get_parameter(name)
            assert torch.equal(found, wanted), name
            assert found.data_ptr() % 256 == 0


@pytest.mark.parametrize("code", [0, 1])
def test_memory_that_cannot_be_pinned_says_why(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    undone: list[int] = []
    runtime = SimpleNamespace(
        cudaHostRegister=lambda *_: code, cudaHostUnregister=lambda at: undone.append(at)
    )
    monkeypatch.setattr(hostweights, "_cudart", lambda: runtime)
    monkeypatch.setattr(hostweights, "_forget_error", lambda _: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    memory = HostMemory(torch.zeros(4096, dtype=torch.uint8))
    memory.pin(torch.device("cuda"))
    assert memory.pinned == (code == 0)
    assert (memory.unpinned_because is None) == (code == 0)
    memory.close(torch.device("cuda"))
    assert len(undone) == (code == 0)
    assert not memory.pinned


def test_rings_on_the_host_fetch_ahead_what_came_next_before() -> None:
    rings = HostRings(CPU)
    a, b = (rings.ring(2, 4, 1, 2, torch.float32, CPU) for _ in range(2))
    for value in range(1, 4):
        for layer in range(2):
            for ring in (a, b):
                k = torch.full((2, 1, 2), float(value * 10 + layer * 2 + (ring is b)))
                ring.write(layer, 2, k, -k)
                seen = ring.window(layer, 4)
                assert torch.equal(seen[0][2:], k)
                assert torch.equal(seen[1][2:], -k)
                assert not seen[0][:2].any()
    for ring in (a, b):
        for layer in range(2):
            wanted = float(30 + layer * 2 + (ring is b))
            assert ring.snapshot()[f"{layer}.k"][2:].eq(wanted).all()
    # The copies on the device are old once a ring was restored.
    a.restore({name: torch.ones(4, 1, 2) for name in a.snapshot()})
    a.write(0, 0, torch.zeros(2, 1, 2), torch.zeros(2, 1, 2))
    assert a.window(0, 4)[0][2:].eq(1).all()
    assert (a.nbytes, rings.nbytes) == (0, 3 * 2 * 4 * 2 * 4)  # two slots and a window
